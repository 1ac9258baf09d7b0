"""From a plan to the cluster, where the cluster has moved on meanwhile."""

from types import SimpleNamespace
from typing import Any

import pytest

from ollama_fleet.controllers.carryout import LEARNING, carry_out
from ollama_fleet.controllers.loop import Result
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Kind, KubeError, Object
from ollama_fleet.kube.errors import Forbidden
from ollama_fleet.kube.kinds import OLLAMA_NODE
from ollama_fleet.plan.result import Plan, child
from tests.unit.controllers.conftest import FakeClock

OWNER: Object = {
    "apiVersion": "ollamafleet.dev/v1alpha1",
    "kind": "OllamaNode",
    "metadata": {"name": "a", "namespace": "llm", "uid": "1", "resourceVersion": "1"},
    "spec": {},
}
PLAN = Plan(apply=(child(OWNER, "v1", "Service", "a", {}),), requeue_after=30.0)


class FakeApi:
    """Counts what it is asked; `nodes` are the OllamaNodes there are."""

    def __init__(self, *nodes: Object) -> None:
        self.nodes = list(nodes)
        self.asked = 0
        self.applied: list[str] = []
        self.refusal: KubeError | None = None
        self.status: Object = {}

    async def list(self, kind: Kind, namespace: str, *, field_selector: str) -> list[Object]:
        if kind != OLLAMA_NODE:
            return []
        self.asked += 1
        assert (namespace, field_selector) == ("llm", "metadata.name=a")
        return self.nodes

    async def apply(self, obj: Object) -> Object:
        if self.refusal is not None:
            raise self.refusal
        self.applied.append(obj["kind"])
        meta = obj["metadata"] | {"uid": "2", "resourceVersion": "7"}
        return obj | {"metadata": meta}

    async def apply_status(self, obj: Object) -> Object:
        self.status = obj["status"]
        return obj | {"metadata": obj["metadata"] | {"resourceVersion": "8"}}


def owner(**meta: Any) -> Object:
    return OWNER | {"metadata": OWNER["metadata"] | meta}


@pytest.mark.parametrize(
    "nodes",
    [(), (owner(uid="another"),), (owner(deletionTimestamp="2026-01-01T00:00:00Z"),)],
    ids=["gone", "made anew", "going"],
)
async def test_nothing_is_made_for_what_was_deleted_unheard(nodes: tuple[Object, ...]) -> None:
    api = FakeApi(*nodes)
    context: Any = SimpleNamespace(kube=api, store=Store())
    assert await carry_out(context, OWNER, lambda _: PLAN) == Result()
    assert api.applied == []


async def test_a_kind_that_the_api_server_has_yet_to_learn_of_is_waited_for(
    clock: FakeClock,
) -> None:
    api = FakeApi(owner())
    api.refusal = Forbidden(403, "Forbidden", "cannot find RESTMapping for OllamaNode")
    context: Any = SimpleNamespace(kube=api, store=Store(), clock=clock)
    assert await carry_out(context, OWNER, lambda _: PLAN) == Result(LEARNING)
    ready = next(one for one in api.status["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Progressing")
    assert ready["message"].startswith("Service a waits until the API server has learnt")
    api.refusal = None
    assert await carry_out(context, OWNER, lambda _: PLAN) == Result(30.0)
    assert api.applied == ["Service"]


async def test_whether_it_lives_is_asked_only_before_something_is_made() -> None:
    api = FakeApi(owner())
    context: Any = SimpleNamespace(kube=api, store=Store())
    for _ in range(2):
        assert await carry_out(context, OWNER, lambda _: PLAN) == Result(30.0)
    assert (api.asked, api.applied) == (1, ["Service"])
