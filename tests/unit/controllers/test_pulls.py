"""Pulls under way: what is told of them, and what is remembered."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Self

import pytest
from prometheus_client import CollectorRegistry

from ollama_fleet.api.conditions import Reason
from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.pulls import REPORT_INTERVAL, Pulls
from ollama_fleet.ollama.errors import (
    OllamaResponseError,
    PullFailed,
    Silent,
    Unreachable,
)
from ollama_fleet.ollama.wire import InstalledModel, PullProgress
from ollama_fleet.plan.distribution import PullOrder
from ollama_fleet.plan.tasks import Failure
from tests.unit.controllers.conftest import FakeClock, settle

MODEL = "llama3.2:1b"
DIGEST = "sha256:" + "a" * 64
ORDER = PullOrder("task", "a-0", "a", "http://a-0", MODEL, MODEL, False, DIGEST, 1000, 60.0)


class FakeServer:
    """Says the lines it is told to say, and lists one model."""

    lines: "asyncio.Queue[PullProgress | Exception | None]"
    turns = 0
    """Of the loop, that its list of models takes."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def pull(self, *_: Any) -> AsyncIterator[PullProgress]:
        while (line := await self.lines.get()) is not None:
            if isinstance(line, Exception):
                raise line
            yield line

    async def tags(self) -> list[InstalledModel]:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return [InstalledModel(name=MODEL, digest="a" * 64, size=1000)]


class FakeProbes:
    def __init__(self, servers: int = 1) -> None:
        self._servers = servers

    def count(self) -> int:
        return self._servers

    async def refresh(self, group: str, url: str) -> None:
        assert (group, url) == ("ns/a", ORDER.url)

    def client(self, group: str, url: str) -> FakeServer:
        assert (group, url) == ("ns/a", ORDER.url)
        return FakeServer()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[FakeServer]:
    monkeypatch.setattr(FakeServer, "lines", asyncio.Queue(), raising=False)
    return FakeServer


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def pulls(clock: FakeClock, registry: CollectorRegistry) -> Pulls:
    probes: Any = FakeProbes()
    return Pulls(Background(), probes, clock, registry, limit=16)


def bytes_done(count: int) -> PullProgress:
    return PullProgress(status="pulling a", digest=DIGEST, total=1000, completed=count)


async def test_figures_stand_until_the_next_report(
    clock: FakeClock, server: type[FakeServer], pulls: Pulls
) -> None:
    woken: list[float] = []
    pulls.start("ns/m", ORDER, 0, lambda: woken.append(clock.time))
    assert pulls.running("ns/m")["task"].completed == 0
    for count in range(100, 900, 100):
        await clock.advance(0.5)
        server.lines.put_nowait(bytes_done(count))
        await settle()
        first, second = pulls.running("ns/m"), pulls.running("ns/m")
        assert first == second
        assert first["task"].completed == (count // 400) * 400
    assert woken == [2.0, 4.0]


@pytest.mark.parametrize(
    ("lasting", "told"), [(60.0, ["at its end"]), (0.0, ["Verifying", "at its end"])]
)
async def test_verifying_is_told_where_it_lasts(
    server: type[FakeServer],
    pulls: Pulls,
    monkeypatch: pytest.MonkeyPatch,
    lasting: float,
    told: list[str],
) -> None:
    monkeypatch.setattr("ollama_fleet.controllers.pulls.LASTING", lasting)
    monkeypatch.setattr(server, "turns", 3)
    heard: list[str] = []

    def changed() -> None:
        running = pulls.running("ns/m").get("task")
        heard.append(running.state if running else "at its end")

    pulls.start("ns/m", ORDER, 0, changed)
    server.lines.put_nowait(None)
    await settle()
    assert heard == told


async def test_figures_of_two_pulls_change_together(
    clock: FakeClock, server: type[FakeServer], pulls: Pulls
) -> None:
    pulls.start("ns/m", ORDER, 0, lambda: None)
    pulls.running("ns/m")
    await clock.advance(REPORT_INTERVAL / 2)
    pulls.start("ns/m", PullOrder(**{**vars(ORDER), "task": "other"}), 0, lambda: None)
    before = pulls.running("ns/m")
    for count in (100, 200):
        await settle()
        server.lines.put_nowait(bytes_done(count))
    await settle()
    assert pulls.running("ns/m") == before
    await clock.advance(REPORT_INTERVAL / 2)
    after = pulls.running("ns/m")
    assert {pull.completed for pull in after.values()} == {100, 200}


async def test_a_failure_by_a_defect_counts_as_one(
    clock: FakeClock, server: type[FakeServer], pulls: Pulls, caplog: pytest.LogCaptureFixture
) -> None:
    pulls.start("ns/m", ORDER, 1, lambda: None)
    server.lines.put_nowait(RuntimeError("oh"))
    await settle()
    assert pulls.running("ns/m") == {}
    failure = pulls.failures("ns/m")["task"]
    assert (failure.attempts, failure.reason) == (2, Reason.PULL_FAILED)
    assert failure.message == "RuntimeError: oh."
    assert "failed by a defect" in caplog.text


async def test_a_failure_after_the_spec_has_changed_is_known(
    clock: FakeClock, server: type[FakeServer], pulls: Pulls
) -> None:
    pulls.start("ns/m", ORDER, 0, lambda: None)
    pulls.forgive("ns/m")
    server.lines.put_nowait(RuntimeError("oh"))
    await settle()
    assert pulls.failures("ns/m").keys() == {"task"}


async def test_status_is_recalled_once(
    clock: FakeClock, server: type[FakeServer], pulls: Pulls
) -> None:
    told = {"task": Failure(clock.now(), 2, Reason.PULL_FAILED, "no space")}
    pulls.recall("ns/m", told)
    assert pulls.failures("ns/m") == told
    pulls.start("ns/m", ORDER, 2, lambda: None)
    server.lines.put_nowait(PullProgress(status="success"))
    server.lines.put_nowait(None)
    await settle()
    pulls.recall("ns/m", told)  # the status of before the success
    assert pulls.failures("ns/m") == {}


async def test_what_is_on_its_way_is_known_to_whoever_plans_in_the_namespace(
    clock: FakeClock, server: type[FakeServer], pulls: Pulls
) -> None:
    pulls.start("ns/m", replace(ORDER, blobs={"w": 900, "t": 100}), 0, lambda: None)
    pulls.start("ns/n", replace(ORDER, task="other", blobs={"t": 100, "u": 1}), 0, lambda: None)
    assert pulls.arriving("ns") == {"a-0": {"w": 900, "t": 100, "u": 1}}
    assert pulls.arriving("elsewhere") == {}
    pulls.keep("ns/m", ())
    assert pulls.arriving("ns") == {"a-0": {"t": 100, "u": 1}}


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (PullFailed(MODEL, "write: no space left on device"), Reason.DISK_FULL, "no space left"),
        (OllamaResponseError(500, "no space left on device"), Reason.DISK_FULL, "no space left"),
        (PullFailed(MODEL, "digest mismatch, want a"), Reason.DIGEST_MISMATCH, "digest mismatch"),
        (PullFailed(MODEL, "manifest: 429: slow down"), Reason.RATE_LIMITED, "429"),
        (PullFailed(MODEL, "manifest: 401: {}"), Reason.REGISTRY_UNAUTHORIZED, "401"),
        # what the server itself refuses
        (OllamaResponseError(401, "who are you"), Reason.PULL_FAILED, "who are you"),
        (Silent("no answer"), Reason.PULL_STALLED, "the pull stood still for 60 s at 40%"),
    ],
)
async def test_how_a_pull_failed(
    clock: FakeClock,
    server: type[FakeServer],
    pulls: Pulls,
    error: Exception,
    reason: Reason,
    words: str,
) -> None:
    pulls.start("ns/m", ORDER, 0, lambda: None)
    server.lines.put_nowait(bytes_done(400))
    server.lines.put_nowait(error)
    await settle()
    failure = pulls.failures("ns/m")["task"]
    assert (failure.reason, failure.attempts, failure.losses) == (reason, 1, 0)
    assert words in failure.message


async def test_a_pull_that_stands_still_at_the_end_is_left(
    clock: FakeClock, server: type[FakeServer], pulls: Pulls
) -> None:
    pulls.start("ns/m", ORDER, 0, lambda: None)
    for _ in range(62):
        server.lines.put_nowait(bytes_done(990))
        await settle()
        await clock.advance(1)
    failure = pulls.failures("ns/m")["task"]
    assert failure.reason == Reason.PULL_STALLED
    assert failure.message == "the pull stood still for 60 s at 99%."
    assert pulls.running("ns/m") == {}


async def test_a_lost_server_uses_up_no_attempt(
    clock: FakeClock, server: type[FakeServer], pulls: Pulls
) -> None:
    lost = Unreachable("http://a-0 cannot be reached")
    for losses in (1, 2, 3):
        pulls.start("ns/m", ORDER, 1, lambda: None)
        server.lines.put_nowait(lost)
        await settle()
        failure = pulls.failures("ns/m")["task"]
        assert (failure.attempts, failure.losses) == (1, losses)
        assert failure.reason == Reason.UNREACHABLE
        assert failure.message == "the server was lost: http://a-0 cannot be reached."
    # it gets on: then it is as if it had been lost for the first time
    pulls.start("ns/m", ORDER, 1, lambda: None)
    for line in (bytes_done(100), bytes_done(200), lost):
        server.lines.put_nowait(line)
    await settle()
    assert pulls.failures("ns/m")["task"].losses == 1


async def test_a_pull_that_is_stopped_is_no_attempt(
    clock: FakeClock, server: type[FakeServer], pulls: Pulls
) -> None:
    pulls.start("ns/m", ORDER, 0, lambda: None)
    server.lines.put_nowait(bytes_done(400))
    await settle()
    pulls.keep("ns/m", ())
    await settle()
    assert pulls.failures("ns/m") == {}
    assert pulls.running("ns/m") == {}


async def test_who_waits_for_a_place_is_called_when_one_is_free(
    clock: FakeClock, server: type[FakeServer]
) -> None:
    probes: Any = FakeProbes()
    pulls = Pulls(Background(), probes, clock, CollectorRegistry(), limit=1)
    called: list[str] = []
    assert pulls.places("ns/m", 1, lambda: None) == 1
    pulls.start("ns/m", ORDER, 0, lambda: None)
    assert pulls.places("ns/n", 1, lambda: called.append("n")) == 0
    server.lines.put_nowait(PullProgress(status="success"))
    server.lines.put_nowait(None)
    await settle()
    assert called == ["n"]
    assert pulls.places("ns/n", 1, lambda: called.append("n")) == 1
    pulls.start("ns/n", replace(ORDER, task="other"), 0, lambda: None)
    assert pulls.places("ns/o", 1, lambda: called.append("o")) == 0
    pulls.forget("ns/n")
    assert called == ["n", "o"]


@pytest.mark.parametrize(
    ("limit", "servers", "places"),
    [(None, 0, 16), (None, 169, 16), (None, 170, 17), (None, 1000, 100), (3, 1000, 3)],
)
async def test_a_large_fleet_pulls_more_at_once(
    clock: FakeClock, limit: int | None, servers: int, places: int
) -> None:
    probes: Any = FakeProbes(servers)
    pulls = Pulls(Background(), probes, clock, CollectorRegistry(), limit)
    assert pulls.places("ns/m", 500, lambda: None) == places


async def test_failures_are_counted_by_reason(
    server: type[FakeServer], pulls: Pulls, registry: CollectorRegistry
) -> None:
    for ending in (PullFailed("m", "no space left on device"), Unreachable("http://a-0 is away")):
        pulls.start("ns/m", ORDER, 0, lambda: None)
        server.lines.put_nowait(ending)
        await settle()
    name = "ollama_fleet_pull_failures_total"
    assert registry.get_sample_value(name, {"reason": "DiskFull"}) == 1
    assert registry.get_sample_value(name, {"reason": "Unreachable"}) == 1


async def test_the_operators_end_waits_for_no_server(
    clock: FakeClock, server: type[FakeServer], registry: CollectorRegistry
) -> None:
    asked: list[str] = []

    class Silence(FakeProbes):
        async def refresh(self, group: str, url: str) -> None:
            asked.append(url)

    probes: Any = Silence()
    background = Background()
    pulls = Pulls(background, probes, clock, registry, limit=16)
    pulls.start("ns/m", ORDER, 0, lambda: None)
    await settle()
    await background.stop()
    assert asked == []
