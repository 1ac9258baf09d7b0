"""Waiting for the cluster to come round."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class HookFailed(Exception):  # noqa: N818
    """What a hook is for did not come about, in words for who runs helm."""


_EVERY = 0.5


async def until(what_is_missing: Callable[[], Awaitable[str]], seconds: float) -> None:
    """Return once nothing is missing; HookFailed, with what still is, after so many seconds.

    What is missing is printed whenever it changes.
    """
    deadline = time.monotonic() + seconds
    said = ""
    while missing := await what_is_missing():
        if missing != said:
            print(missing, flush=True)  # noqa: T201
            said = missing
        if time.monotonic() > deadline:
            raise HookFailed(f"not within {seconds:.0f} s: {missing}")
        await asyncio.sleep(_EVERY)
