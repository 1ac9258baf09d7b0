"""Waits for a condition, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def until(
    check: Callable[[], Any] | Callable[[], Awaitable[Any]], what: str, within: float = 60.0
) -> Any:
    """What `check` returns once that is true; AssertionError if it never is."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        found = check()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"{what}: not so within {within:g} s")
        await asyncio.sleep(0.05)
