"""Loads, one after the other on each server; what is put out again is loaded later and later."""

import asyncio
from typing import Any, cast

from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.loads import ATTEMPTS, LAST_PAUSE, Loads
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.ollama.errors import OllamaResponseError
from ollama_fleet.plan.result import LoadOrder
from tests.unit.controllers.conftest import FakeClock, settle

URL = "http://a-0:11434"


class Servers:
    """Every server there is: it loads at once, or says why not."""

    def __init__(self, clock: FakeClock) -> None:
        self.asked: list[tuple[float, str, Any]] = []
        self.broken: set[str] = set()
        self._clock = clock
        self.loads = Loads(Background(), cast(Probes, self), clock)

    async def __aenter__(self) -> "Servers":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def client(self, group: str, url: str) -> "Servers":
        assert (group, url) == ("llm/a", URL)
        return self

    async def refresh(self, group: str, url: str) -> None:
        pass

    async def load(self, model: str, keep_alive: Any, timeout: float) -> None:
        self.asked.append((self._clock.monotonic(), model, keep_alive))
        if model in self.broken:
            raise OllamaResponseError(500, "too large")

    def want(self, *models: str, keep_alive: int | str | None = -1) -> None:
        orders = [LoadOrder("a-0", URL, model, keep_alive) for model in models]
        self.loads.want("llm/a", orders, lambda: None)

    @property
    def times(self) -> list[float]:
        return [time for time, _, _ in self.asked]


async def test_what_is_put_out_again_is_loaded_later_and_later(
    clock: FakeClock,
) -> None:
    servers = Servers(clock)
    for _ in range(1000):
        servers.want("m")
        await settle()
        servers.want()
        await clock.advance(1)
    gaps = [after - before for before, after in zip(servers.times, servers.times[1:], strict=False)]
    assert servers.times[0] == 0
    assert gaps == sorted(gaps)
    assert gaps[0] == 5
    assert LAST_PAUSE <= gaps[-1] <= LAST_PAUSE + 1
    # left in memory for a while, it is put back at once
    await clock.advance(1000)
    now = clock.monotonic()
    servers.want("m")
    await settle()
    assert servers.times[-1] == now


async def test_who_changes_the_mind_does_not_wait(clock: FakeClock) -> None:
    servers = Servers(clock)
    for _ in range(4):
        for keep_alive in (-1, "30m"):
            servers.want("m", keep_alive=keep_alive)
            await settle()
            await clock.advance(1)
    assert [kept for _, _, kept in servers.asked] == [-1, "30m"] * 4
    # a server that does not let go is not asked all the time
    servers.want("m", keep_alive="30m")
    await settle()
    assert len(servers.asked) == 8
    await clock.advance(5)
    assert len(servers.asked) == 9


async def test_what_does_not_load_lets_the_others_go_first_and_is_told(
    clock: FakeClock,
) -> None:
    servers = Servers(clock)
    servers.broken = {"m"}
    servers.want("m", "n")
    await settle()
    assert [model for _, model, _ in servers.asked] == ["m", "n"]
    for pause in (5, 10):
        assert servers.loads.failures("llm/a") == {}
        await clock.advance(pause)
    assert len(servers.asked) == ATTEMPTS + 1
    assert "too large" in servers.loads.failures("llm/a")[URL, "m"]
    # news is heard while it waits
    servers.want("m", "o", keep_alive="30m")
    await settle()
    assert servers.asked[-1][1:] == ("o", "30m")
    servers.want()
    await asyncio.sleep(0)
