"""Waits for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(what: str, check: Callable[[], T], *, within: float = 60.0) -> T:
    """Call `check` until it returns something true, and return that; AssertionError in the end."""
    deadline = time.monotonic() + within
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not so within {within:g} s, last seen {found!r}")
        time.sleep(0.1)
