"""What is written, and what is as it should be already."""

from types import SimpleNamespace
from typing import Any

import pytest

from ollama_fleet.controllers.act import RefusedError, apply, change, covers, report
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Invalid, Kind, KubeError, NotFound, Object, Unavailable
from ollama_fleet.kube.errors import Conflict, Forbidden
from ollama_fleet.kube.kinds import PERSISTENT_VOLUME_CLAIM, STATEFUL_SET
from ollama_fleet.plan.result import Note, Plan

OWNER: Object = {
    "apiVersion": "ollamafleet.dev/v1alpha1",
    "kind": "OllamaNode",
    "metadata": {"name": "a", "namespace": "llm", "uid": "1", "resourceVersion": "1"},
    "spec": {},
    "status": {"ready": "0/1"},
}


class FakeApi:
    """Keeps what is applied, as server-side apply would, and counts."""

    def __init__(self) -> None:
        self.applied: list[Object] = []
        self.statuses: list[Any] = []
        self.events: list[str] = []
        self.patches: list[Any] = []
        self.there: list[Object] = []
        self.refuses: Exception | None = None
        self.version = 10

    async def list(self, kind: Kind, namespace: str, *, field_selector: str) -> list[Object]:
        assert (namespace, field_selector) == ("llm", "metadata.name=a")
        return self.there

    async def apply(self, obj: Object) -> Object:
        if self.refuses:
            raise self.refuses
        self.applied.append(obj)
        self.version += 1
        meta = obj["metadata"] | {"uid": "2", "resourceVersion": str(self.version)}
        return obj | {"metadata": meta}

    async def patch(self, kind: Kind, name: str, namespace: str, patch: Object) -> Object:
        self.patches.append((str(kind), namespace, name, patch))
        if self.refuses:
            raise self.refuses
        meta = {"name": name, "namespace": namespace, "uid": "3", "resourceVersion": "8"}
        return claim() | {"metadata": meta, "spec": patch["spec"]}

    async def apply_status(self, obj: Object) -> Object:
        self.statuses.append(obj["status"])
        self.version += 1
        return obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self.version)}}

    async def event(self, _: Object, *, reason: str, **__: str) -> None:
        self.events.append(reason)


DENIED = 'admission webhook "validate.nginx.ingress.kubernetes.io" denied the request: '


def workload(**template: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "a", "namespace": "llm"},
        "spec": {"replicas": 1, "template": template},
    }


def claim(size: str = "2Gi") -> Object:
    """What to change of a claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models-a-0", "namespace": "llm", "resourceVersion": "7"},
        "spec": {"resources": {"requests": {"storage": size}}},
    }


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def context(api: FakeApi) -> Any:
    return SimpleNamespace(kube=api, store=Store())


async def carry_out(context: Any, *objects: Object) -> None:
    await apply(context, Plan(apply=objects))


async def test_what_is_so_already_is_not_written_again(context: Any, api: FakeApi) -> None:
    for _ in range(3):
        await carry_out(context, workload(labels={"a": "1"}))
    assert len(api.applied) == 1


async def test_what_another_manager_adds_is_no_reason_to_write(context: Any, api: FakeApi) -> None:
    await carry_out(context, workload(labels={"a": "1"}))
    live = context.store.list(STATEFUL_SET)[0]
    added = {**live, "metadata": live["metadata"] | {"resourceVersion": "99"}}
    added["spec"] = {**live["spec"], "template": {"labels": {"a": "1", "theirs": "x"}}}
    assert context.store.put(added)
    await carry_out(context, workload(labels={"a": "1"}))
    assert len(api.applied) == 1


@pytest.mark.parametrize("now", [{}, {"labels": {}}, {"labels": {"a": "2"}}])
async def test_what_is_wanted_no_longer_is_a_reason(
    context: Any, api: FakeApi, now: dict[str, Any]
) -> None:
    await carry_out(context, workload(labels={"a": "1"}))
    await carry_out(context, workload(**now))
    assert len(api.applied) == 2


async def test_what_another_manager_changes_is_put_back(context: Any, api: FakeApi) -> None:
    await carry_out(context, workload())
    live = context.store.list(STATEFUL_SET)[0]
    meta = live["metadata"] | {"resourceVersion": "99"}
    context.store.put({**live, "metadata": meta, "spec": {**live["spec"], "replicas": 3}})
    await carry_out(context, workload())
    assert [one["spec"]["replicas"] for one in api.applied] == [1, 1]


async def test_a_status_that_is_the_same_is_not_written(context: Any, api: FakeApi) -> None:
    note = Note("Normal", "Ready", "it is")
    await report(context, OWNER, Plan(status={"ready": "0/1"}))
    assert (api.statuses, api.events) == ([], [])
    await report(context, OWNER, Plan(status={"ready": "1/1"}, notes=(note,)))
    assert (api.statuses, api.events) == ([{"ready": "1/1"}], ["Ready"])


async def test_a_refusal_is_for_the_user(context: Any, api: FakeApi) -> None:
    api.refuses = Invalid(422, "Invalid", "spec.replicas: must not be negative")
    with pytest.raises(RefusedError, match=r"^StatefulSet a: spec\.replicas"):
        await carry_out(context, workload())


MINE = {"labels": {"ollamafleet.dev/ollamanode": "a"}}
OWNED = {"ownerReferences": [{"kind": "OllamaNode", "name": "a", "uid": "of an earlier one"}]}


def named(**metadata: Any) -> Object:
    return workload() | {"metadata": {"name": "a", "namespace": "llm", **metadata}}


@pytest.mark.parametrize("there", [{}, {"labels": {"ollamafleet.dev/router": "a"}}])
@pytest.mark.parametrize("seen", [False, True])
async def test_what_is_not_of_the_resource_is_left_alone(
    context: Any, api: FakeApi, there: dict[str, Any], seen: bool
) -> None:
    live = named(uid="9", resourceVersion="3", **there)
    if seen:
        context.store.put(live)
    else:
        api.there = [live]
    with pytest.raises(RefusedError, match="StatefulSet a is there already") as refused:
        await carry_out(context, named(**MINE, **OWNED))
    assert refused.value.remedy == "Delete that StatefulSet, or give this resource another name."
    assert api.applied == []


async def test_a_pod_is_marked(context: Any, api: FakeApi) -> None:
    context.store.put(named(uid="9", resourceVersion="3"))
    await carry_out(context, named(labels={"ollamafleet.dev/draining": "true"}))
    assert len(api.applied) == 1


@pytest.mark.parametrize("there", [MINE, OWNED])
async def test_what_lost_its_labels_or_its_owner_is_still_of_the_resource(
    context: Any, api: FakeApi, there: dict[str, Any]
) -> None:
    api.there = [named(**there)]
    await carry_out(context, named(**MINE, **OWNED))
    assert len(api.applied) == 1


UNKNOWN = ".spec.rules[0].timeouts: field not declared in schema"


@pytest.mark.parametrize(
    ("refuses", "told"),
    [
        (KubeError(400, "", DENIED), "denied the request"),
        (Forbidden(403, "", DENIED), "denied the request"),
        (Unavailable(500, "", UNKNOWN), "install a newer definition of StatefulSet"),
    ],
)
async def test_what_only_the_user_can_change_is_told(
    context: Any, api: FakeApi, refuses: KubeError, told: str
) -> None:
    api.refuses = refuses
    with pytest.raises(RefusedError, match=told):
        await carry_out(context, workload())


async def test_a_change_sets_its_fields_unless_the_object_has_moved_on(
    context: Any, api: FakeApi
) -> None:
    assert await change(context, Plan(change=(claim(),))) == {}
    patch = {"metadata": {"resourceVersion": "7"}, "spec": claim()["spec"]}
    assert api.patches == [(str(PERSISTENT_VOLUME_CLAIM), "llm", "models-a-0", patch)]
    (known,) = context.store.list(PERSISTENT_VOLUME_CLAIM)
    assert known["spec"] == claim()["spec"]


@pytest.mark.parametrize(
    ("refuses", "refused"),
    [
        (Forbidden(403, "Forbidden", "may not grow"), {"models-a-0": "may not grow"}),
        (Invalid(422, "Invalid", "spec is immutable"), {"models-a-0": "spec is immutable"}),
        (Conflict(409, "Conflict", "changed"), {}),
        (NotFound(404, "NotFound", "gone"), {}),
    ],
)
async def test_what_kubernetes_would_not_change_is_told_in_its_words(
    context: Any, api: FakeApi, refuses: KubeError, refused: dict[str, str]
) -> None:
    api.refuses = refuses
    assert await change(context, Plan(change=(claim(),))) == refused
    assert context.store.list(PERSISTENT_VOLUME_CLAIM) == []


async def test_a_change_that_may_pass_later_is_tried_again(context: Any, api: FakeApi) -> None:
    api.refuses = Unavailable(503, "", "not now")
    with pytest.raises(Unavailable):
        await change(context, Plan(change=(claim(),)))


@pytest.mark.parametrize(
    ("live", "wanted", "covered"),
    [
        ({"cpu": "500m"}, {"cpu": "0.5"}, True),
        ({"memory": "1073741824"}, {"memory": "1Gi"}, True),
        ({"memory": "1G"}, {"memory": "1Gi"}, False),
        ({"a": 1, "filled": "in"}, {"a": 1}, True),
        ({}, {"env": []}, True),
        ({"on": True}, {"on": 1}, True),
        ([1, 2], [1], False),
        ({"a": None}, {"a": {}}, False),
        ({"rules": None}, {"rules": []}, True),
        ({"rules": [{"verbs": ["get"]}]}, {"rules": []}, False),
    ],
)
def test_covers(live: Any, wanted: Any, covered: bool) -> None:
    assert covers(live, wanted) is covered
