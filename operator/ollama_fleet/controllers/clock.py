"""Time as an argument, so that tests can hold it still."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Until the event is set, or that many seconds have passed (None: no limit)."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Until the event is set, or that many seconds have passed (None: no limit)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
