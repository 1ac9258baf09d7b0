import logging
from typing import Any, cast

import pytest

from ollama_fleet.controllers.creation import events_about
from ollama_fleet.kube import Kind, Kube, KubeError, Object
from ollama_fleet.kube.errors import Forbidden

WORKLOAD: Object = {
    "metadata": {"name": "a", "namespace": "llm", "uid": "w", "generation": 1},
    "spec": {"replicas": 1},
    "status": {"observedGeneration": 1},
}


class Cluster:
    """Has one Event, or refuses to tell."""

    def __init__(self, refusal: KubeError | None = None) -> None:
        self.refusal = refusal
        self.asked: list[tuple[str, str | None, str]] = []

    async def list(self, kind: Kind, namespace: str | None, field_selector: str) -> list[Any]:
        self.asked.append((str(kind), namespace, field_selector))
        if self.refusal:
            raise self.refusal
        return [{"reason": "FailedCreate"}]


async def test_a_workload_that_lacks_pods_is_asked_about() -> None:
    cluster = Cluster()
    assert await events_about(cast(Kube, cluster), WORKLOAD, []) == ({"reason": "FailedCreate"},)
    assert cluster.asked == [("Event", "llm", "regarding.uid=w")]


@pytest.mark.parametrize(("workload", "pods"), [(None, []), (WORKLOAD, [{}])])
async def test_nothing_is_read_of_any_other(workload: Object | None, pods: list[Object]) -> None:
    cluster = Cluster()
    assert await events_about(cast(Kube, cluster), workload, pods) == ()
    assert cluster.asked == []


async def test_a_cluster_that_hides_them_is_no_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(Forbidden(403, "Forbidden", "may not list"))
    with caplog.at_level(logging.WARNING):
        assert await events_about(cast(Kube, cluster), WORKLOAD, []) == ()
    assert "why llm/a lacks pods: may not list" in caplog.text
