"""What pods use: asked rarely, and done without where nobody tells."""

import asyncio
from typing import Any, cast

import pytest

from ollama_fleet.controllers.usage import EVERY, FAILED, KNOWN, PodUsage
from ollama_fleet.kube import Forbidden, Kind, Kube, KubeError, NotFound, Object, Unavailable
from ollama_fleet.kube.kinds import POD_METRICS
from ollama_fleet.plan.usage import Usage
from tests.unit.controllers.conftest import FakeClock
from tests.unit.plan.objects import pod as ready_pod


class Metrics:
    """A cluster that says what it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: list[Object] | KubeError | None = None

    async def list(self, kind: Kind, namespace: str, labels: str) -> Any:
        assert (kind, namespace, labels) == (POD_METRICS, "llm", "ollamafleet.dev/ollamanode")
        self.asked += 1
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, KubeError):
            raise self.answer
        return self.answer


def pod(cpu: str) -> Object:
    usage = {"cpu": cpu, "memory": "1Mi"}
    return {"metadata": {"name": "a-0"}, "containers": [{"name": "ollama", "usage": usage}]}


READY = [ready_pod("a-0")]


async def test_figures_stand_for_a_while(clock: FakeClock) -> None:
    metrics = Metrics()
    usage = PodUsage(cast(Kube, metrics), clock)
    assert await usage.look("llm", []) is None
    assert (metrics.asked, usage.of("llm")) == (0, {})
    metrics.answer = [pod("1")]
    assert await usage.look("llm", READY) == EVERY
    assert usage.of("llm") == {"a-0": Usage(1, 2**20)}
    metrics.answer = [pod("2")]
    await clock.advance(KNOWN - 1)
    await usage.look("llm", READY)
    assert usage.of("llm") == {"a-0": Usage(1, 2**20)}
    await clock.advance(2)
    await usage.look("llm", READY)
    assert usage.of("llm") == {"a-0": Usage(2, 2**20)}
    assert metrics.asked == 2


async def test_a_pod_that_has_just_begun_is_looked_at_soon(clock: FakeClock) -> None:
    metrics = Metrics()
    usage = PodUsage(cast(Kube, metrics), clock)
    metrics.answer = [pod("1")]
    assert await usage.look("llm", [*READY, ready_pod("a-1", ready=False)]) == EVERY
    assert await usage.look("llm", [*READY, ready_pod("a-1")]) == KNOWN


@pytest.mark.parametrize(
    "answer",
    [
        NotFound(404, "NotFound", "no such API"),
        Forbidden(403, "Forbidden", "no"),
        Unavailable(503, "ServiceUnavailable", "metrics are away"),
        [pod("much")],
        None,
    ],
)
async def test_without_metrics_it_is_looked_again_rarely(
    clock: FakeClock, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_fleet.controllers.usage.TIMEOUT", 0.001)
    metrics = Metrics()
    usage = PodUsage(cast(Kube, metrics), clock)
    metrics.answer = answer
    assert await usage.look("llm", READY) is None
    assert usage.of("llm") == {}
    metrics.answer = [pod("1")]
    await clock.advance(FAILED - 1)
    assert await usage.look("llm", READY) is None
    await clock.advance(2)
    assert await usage.look("llm", READY) == EVERY
    assert usage.of("llm") == {"a-0": Usage(1, 2**20)}
    assert metrics.asked == 2
