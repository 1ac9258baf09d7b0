"""What becomes of the watches when kopf ends."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ollama_fleet.controllers import wiring
from ollama_fleet.controllers.wiring import Watches, WatchesLostError


class Kopf(Watches):
    """Ends at once that many times, then watches."""

    def __init__(self, ends: int) -> None:
        nobody: Any = None
        feed: Any = SimpleNamespace(kinds={})
        super().__init__(nobody, feed)
        self.left = ends
        self.watching = asyncio.Event()

    async def _kopf(self, stop: asyncio.Event) -> None:
        if self.left:
            self.left -= 1
            raise RuntimeError("410 Gone")
        self._main.call_soon_threadsafe(self.watching.set)
        await stop.wait()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "_LAST_PAUSE", 0.01)


async def test_they_begin_anew(caplog: pytest.LogCaptureFixture) -> None:
    watches = Kopf(ends=2)
    running = asyncio.create_task(watches.run())
    async with asyncio.timeout(10):
        await watches.watching.wait()
    assert not running.done()
    assert caplog.text.count("the watches ended (410 Gone); they begin anew") == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_those_that_end_again_and_again_are_lost() -> None:
    watches = Kopf(ends=100)
    async with asyncio.timeout(10):
        with pytest.raises(WatchesLostError, match="410 Gone"):
            await watches.run()
    assert watches.left == 95
