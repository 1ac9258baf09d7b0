"""Tasks whose failures are neither lost nor fatal."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Coroutine

import httpx2

from dev.machines.apiserver import ApiError

_RETRY_SECONDS = 1.0


def spawn(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Start a task; should it fail, the traceback goes to standard error."""
    task = asyncio.create_task(_told(work))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def persist(serve: Callable[[], Coroutine[None, None, None]]) -> None:
    """Serve for ever: once more after a pause whenever the API server fails."""
    while True:
        await until_done(serve)
        await asyncio.sleep(_RETRY_SECONDS)


async def until_done(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Try again after a pause for as long as the API server fails."""
    while True:
        try:
            return await work()
        except (ApiError, httpx2.HTTPError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        await asyncio.sleep(_RETRY_SECONDS)


async def _told(work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except Exception:
        traceback.print_exc()
        raise


# The event loop holds tasks weakly.
_running: set[asyncio.Task[None]] = set()
