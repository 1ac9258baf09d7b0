"""What to do where the API server asks to slow down, or stumbles."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from ollama_fleet.kube.errors import TooManyRequests, Unavailable

PATIENCE = 10.0
"""Seconds that one call waits in all. Whatever makes many calls would else have to begin again at
its first for every one refused, and where that lasts never come to its end."""
_PAUSES = (0.25, 0.5, 1.0)
"""Seconds before each repetition of what failed with a 5xx."""

T = TypeVar("T")


async def patiently(
    call: Callable[[], Awaitable[T]], patience: float = PATIENCE, *, idempotent: bool = False
) -> T:
    """What `call` comes to, made again when a 429 says how long to wait, as it did nothing.

    One that is `idempotent` is made again after a 5xx too, which may have done everything. Raises
    what came last once that would take more than `patience` seconds, or where nobody answers.
    """
    pauses = iter(_PAUSES if idempotent else ())
    while True:
        try:
            return await call()
        except (TooManyRequests, Unavailable) as error:
            wait = _wait(error, pauses)
            if not wait or wait > patience:
                raise
        patience -= wait
        await asyncio.sleep(wait)


def _wait(error: TooManyRequests | Unavailable, pauses: Iterator[float]) -> float | None:
    if isinstance(error, TooManyRequests):
        return error.retry_after
    pause = next(pauses, None) if error.status else None
    return pause and max(pause, error.retry_after or 0.0)
