import asyncio
from datetime import UTC, datetime, timedelta

import pytest


async def settle() -> None:
    """Let every task run until it waits; nothing here waits for anything outside the loop."""
    for _ in range(50):
        await asyncio.sleep(0)


class FakeClock:
    """Time that moves only when a test says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self.set_forward = 0.0
        """Seconds by which somebody has set the time of day."""
        self._timers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.time + self.set_forward)

    def monotonic(self) -> float:
        return self.time

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        timer = asyncio.get_running_loop().create_future()
        if seconds is not None:
            self._timers.append((self.time + seconds, timer))
        setting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({setting, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            setting.cancel()
            timer.cancel()

    async def advance(self, seconds: float) -> None:
        """Move on, stopping at every moment somebody waits for."""
        end = self.time + seconds
        await settle()
        while True:
            self._timers = [timer for timer in self._timers if not timer[1].done()]
            due = min((when for when, _ in self._timers), default=end)
            if due > end:
                break
            self.time = max(self.time, due)
            for when, timer in self._timers:
                if when <= self.time:
                    timer.set_result(None)
            await settle()
            if not self._timers:
                break
        self.time = end
        await settle()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
