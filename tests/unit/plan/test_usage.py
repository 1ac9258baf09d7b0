"""What pods use is told beside other news, and never alone."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.api.quantity import cores_of
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.usage import Usage, usage_by_pod
from tests.unit.plan.objects import GIB, NOW, Object, machine, pod, probe, resource

URL = "http://10.0.0.1:11434"
IDLE, BUSY = Usage(0.2512, 3 * GIB), Usage(7.25, 3 * GIB + 2**27 + 1)


def test_containers_add_up_in_the_units_that_metrics_come_in() -> None:
    metrics: Object = {
        "metadata": {"name": "a-0"},
        "containers": [
            {"name": "ollama", "usage": {"cpu": "1250000000n", "memory": "1024Ki"}},
            {"name": "other", "usage": {"cpu": "250m", "memory": "1Mi"}},
        ],
    }
    starting: Object = {"metadata": {"name": "a-1"}, "containers": []}
    assert usage_by_pod([metrics, starting]) == {"a-0": Usage(1.5, 2 * 2**20)}


@pytest.mark.parametrize(
    ("text", "cores"), [("2", 2), ("500m", 0.5), ("12u", 12e-6), ("7n", 7e-9), ("0", 0)]
)
def test_cores(text: str, cores: float) -> None:
    assert cores_of(text) == pytest.approx(cores)


@pytest.mark.parametrize("text", ["", "1k", "-1", "m", "1.5.2"])
def test_what_are_no_cores(text: str) -> None:
    with pytest.raises(ValueError, match="amount of CPU"):
        cores_of(text)


def status(before: Any, usage: Usage | None, **changes: Any) -> Any:
    seen = replace(probe(), **changes)
    observed = Observed(
        {"spec": {}, "status": {"updatedReplicas": 1}},
        (pod("a-0"),),
        {"gpu-a": machine("gpu-a")},
        {URL: seen},
        usage={"a-0": usage} if usage else {},
    )
    node = resource("OllamaNode", "a", {"replicas": 1}, **({"status": before} if before else {}))
    return plan_ollamanode(node, observed, NOW).status


def figures(told: Any) -> tuple[Any, Any]:
    (server,) = told["servers"]
    return server.get("cpuUsed"), server.get("ramUsed")


def test_figures_that_move_alone_are_not_written() -> None:
    first = status(None, IDLE)
    assert figures(first) == ("250m", "3Gi")
    assert status(first, BUSY) == first
    minutes = timedelta(minutes=6)
    later = status(first, BUSY, last_seen=NOW + minutes)
    assert figures(later) == ("7250m", "3.1Gi")
    assert figures(status(first, BUSY, resident={"x": 1})) == ("7250m", "3.1Gi")


def test_they_come_and_go_with_the_metrics() -> None:
    without = status(None, None)
    assert figures(without) == (None, None)
    assert status(without, None) == without
    told = status(without, IDLE)
    assert figures(told) == ("250m", "3Gi")
    assert status(told, None) == without
