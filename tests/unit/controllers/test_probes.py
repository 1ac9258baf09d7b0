"""Servers are asked again and again, whatever they answer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.api.access import Access, SecretRefs
from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.probes import INTERVAL, RETRY, VERSION_EVERY, Probes
from ollama_fleet.ollama.errors import Unreachable
from ollama_fleet.ollama.wire import InstalledModel, ResidentModel
from tests.unit.controllers.conftest import FakeClock, settle

URL = "http://a-0:11434"


class FakeServer:
    """A server with models, that may be slow or fail."""

    models: list[str] = []
    resident: list[ResidentModel] = []
    asked = 0
    runs = "0.35.1"
    fails: Exception | None = None
    gate = asyncio.Event()

    def __init__(self, *_: Any) -> None:
        pass

    async def close(self) -> None:
        pass

    async def version(self) -> str:
        return self.runs

    async def tags(self) -> list[InstalledModel]:
        type(self).asked += 1
        if self.fails is not None:
            raise self.fails
        found = list(self.models)
        await self.gate.wait()
        return [InstalledModel(name=name, digest="a" * 64, size=1) for name in found]

    async def ps(self) -> list[ResidentModel]:
        return list(self.resident)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[FakeServer]:
    monkeypatch.setattr("ollama_fleet.controllers.probes.OllamaClient", FakeServer)
    for name, value in {
        "models": [],
        "resident": [],
        "asked": 0,
        "runs": "0.35.1",
        "fails": None,
        "gate": asyncio.Event(),
    }.items():
        monkeypatch.setattr(FakeServer, name, value)
    FakeServer.gate.set()
    return FakeServer


async def nothing(*_: object) -> Access:
    raise AssertionError("there is no Secret")


@pytest.fixture
async def probes(clock: FakeClock) -> AsyncIterator[Probes]:
    background = Background()
    yield Probes(background, clock, lambda: 0.5, 1.0, read=nothing)
    await background.stop()


async def test_an_answer_on_its_way_is_not_the_one_waited_for(
    server: type[FakeServer], probes: Probes
) -> None:
    server.gate.clear()
    probes.follow("ns/a", [URL], SecretRefs(), lambda models: None)
    await settle()
    server.models = ["llama3.2:1b"]
    refreshed = asyncio.create_task(probes.refresh("ns/a", URL))
    await settle()
    server.gate.set()
    await settle()
    assert refreshed.done()
    assert probes.seen("ns/a")[URL].installed.keys() == {"llama3.2:1b"}
    assert server.asked == 2


async def test_a_defect_does_not_end_the_probing(
    clock: FakeClock, server: type[FakeServer], probes: Probes, caplog: pytest.LogCaptureFixture
) -> None:
    server.fails = RuntimeError("oh")
    probes.follow("ns/a", [URL], SecretRefs(), lambda models: None)
    await settle()
    assert probes.seen("ns/a")[URL].error == "RuntimeError: oh"
    assert "failed by a defect" in caplog.text
    server.fails = None
    await clock.advance(RETRY + 1)
    assert probes.seen("ns/a")[URL].error is None


async def test_a_server_is_silent_after_the_time_that_was_set(
    clock: FakeClock, server: type[FakeServer]
) -> None:
    background = Background()
    patience = timedelta(seconds=7)
    probes = Probes(background, clock, lambda: 0.5, 1.0, nothing, offline_after=patience)
    probes.follow("ns/a", [URL], SecretRefs(), lambda models: None)
    await settle()
    for fails in (None, Unreachable("gone")):
        server.fails = fails
        await clock.advance(INTERVAL + 1)
        probe = probes.seen("ns/a")[URL]
        assert probe.last_seen is not None
        assert not probe.silent(probe.last_seen + timedelta(seconds=6))
        assert probe.silent(probe.last_seen + patience) is (fails is not None)
    await background.stop()


async def test_who_follows_is_told_whether_it_is_of_models_alone(
    clock: FakeClock, server: type[FakeServer], probes: Probes
) -> None:
    heard: list[frozenset[str] | None] = []
    probes.follow("ns/a", [URL], SecretRefs(), heard.append)
    await settle()
    server.models = ["llama3.2:1b"]
    await clock.advance(INTERVAL + 2)
    assert heard == [None, {"llama3.2:1b"}]
    server.fails = Unreachable("gone")
    await clock.advance(INTERVAL + 2)
    assert set(heard[2:]) == {None}
    server.fails = None
    await clock.advance(RETRY + 1)
    assert heard[-1] is None


async def test_everyone_who_follows_a_server_hears_of_it(
    clock: FakeClock, server: type[FakeServer], probes: Probes
) -> None:
    heard: list[str] = []
    probes.follow("one/a", [URL], SecretRefs(), lambda models: heard.append("one"))
    probes.follow("two/b", [URL], SecretRefs(), lambda models: heard.append("two"))
    await settle()
    assert heard == ["one", "two"]
    await clock.advance(3 * INTERVAL)
    assert heard == ["one", "two"]
    server.fails = Unreachable("gone")
    await clock.advance(INTERVAL + 2)
    assert heard[2:4] == ["one", "two"]
    probes.forget("one/a")
    server.fails = None
    await clock.advance(RETRY + 1)
    assert heard[-1] == "two"
    assert not probes.follows("one/a", URL)
    assert probes.follows("two/b", URL)
    probes.forget("two/b")
    assert not probes.follows("two/b", URL)


async def test_a_server_that_began_another_life_is_asked_at_once(
    server: type[FakeServer], probes: Probes, clock: FakeClock
) -> None:
    probes.follow("ns/a", [URL], SecretRefs(), lambda models: None)
    await settle()
    for life, asked in (("1", 1), ("1", 1), ("2", 2), ("2", 2)):
        probes.lives("ns/a", {URL: life, "http://elsewhere:11434": "1"})
        await settle()
        assert server.asked == asked


async def test_another_version_is_noticed(
    server: type[FakeServer], probes: Probes, clock: FakeClock
) -> None:
    def version() -> str | None:
        return probes.seen("ns/a")[URL].version

    probes.follow("ns/a", [URL], SecretRefs(), lambda models: None)
    probes.lives("ns/a", {URL: "1"})
    await settle()
    server.runs = "0.36.0"
    await clock.advance(2 * INTERVAL)
    assert version() == "0.35.1"
    await clock.advance(VERSION_EVERY * INTERVAL)
    assert version() == "0.36.0"

    server.runs = "0.37.0"
    probes.lives("ns/a", {URL: "2"})
    await settle()
    assert version() == "0.37.0"

    server.runs, server.fails = "0.38.0", Unreachable("gone")
    await clock.advance(INTERVAL + 2)
    server.fails = None
    await clock.advance(RETRY + 1)
    assert version() == "0.38.0"


@pytest.mark.parametrize(
    ("digest", "expires", "lasting"),
    [
        ("a", "2318-01-01T00:00:00Z", True),
        ("a", "2318-01-01T00:00:00", True),
        ("a", "2026-01-01T00:05:00Z", False),
        ("b", "2318-01-01T00:00:00Z", False),
    ],
)
async def test_what_stays_in_memory_for_good(
    server: type[FakeServer], probes: Probes, digest: str, expires: str, lasting: bool
) -> None:
    server.models = ["m:1b"]
    told = {"name": "m:1b", "digest": digest * 64, "size": 1, "expires_at": expires}
    server.resident = [ResidentModel.model_validate(told)]
    probes.follow("ns/a", [URL], SecretRefs(), lambda models: None)
    await settle()
    probe = probes.seen("ns/a")[URL]
    assert set(probe.resident) == {"m:1b"}
    assert (probe.lasting == {"m:1b"}) is lasting
