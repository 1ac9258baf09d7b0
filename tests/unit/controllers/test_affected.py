from typing import Any

import pytest

from ollama_fleet.controllers.affected import affected
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Kind, Object
from ollama_fleet.kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    MODEL_DISTRIBUTION,
    NODE,
    OLLAMA_NODE,
    POD,
    RESOURCE_CLAIM,
    RESOURCE_CLAIM_TEMPLATE,
    RESOURCE_SLICE,
    ROUTER,
    SERVICE,
    STATEFUL_SET,
    STORAGE_CLASS,
)


def make(kind: Kind, name: str, namespace: str = "x", spec: Any = None, **meta: Any) -> Object:
    place = {"namespace": namespace} if kind.namespaced else {}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "uid": f"{kind}-{namespace}-{name}", **place, **meta},
        "spec": spec or {},
    }


def owned_by(kind: Kind, name: str, controller: bool = True) -> dict[str, Any]:
    owner = {"apiVersion": kind.api_version, "kind": kind.kind, "name": name, "uid": "u"}
    return {"ownerReferences": [owner | {"controller": controller}]}


ON_A, ON_FAR = "OllamaNode/x/a", "OllamaNode/x/far"
MD_1, MD_2, ROUTER_R = "ModelDistribution/x/m1", "ModelDistribution/x/m2", "Router/x/r"
NODE_LABEL: dict[str, Any] = {"labels": {"ollamafleet.dev/ollamanode": "a"}}
ROUTER_LABEL: dict[str, Any] = {"labels": {"ollamafleet.dev/router": "r"}}


@pytest.fixture
def store() -> Store:
    store = Store()
    for obj in (
        make(OLLAMA_NODE, "a", resourceVersion="1"),
        make(OLLAMA_NODE, "far", spec={"external": {"url": "http://far"}}, resourceVersion="1"),
        make(OLLAMA_NODE, "elsewhere", "y", resourceVersion="1"),
        make(MODEL_DISTRIBUTION, "m1", resourceVersion="1", generation=1),
        make(MODEL_DISTRIBUTION, "m2", resourceVersion="1"),
        make(MODEL_DISTRIBUTION, "m3", "y", resourceVersion="1"),
        make(ROUTER, "r", resourceVersion="1"),
        make(ROUTER, "s", "y", resourceVersion="1"),
    ):
        store.put(obj)
    return store


@pytest.mark.parametrize(
    ("obj", "before", "keys"),
    [
        (make(OLLAMA_NODE, "a"), None, {ON_A, MD_1, MD_2, ROUTER_R}),
        (make(ROUTER, "r"), None, {ROUTER_R}),
        (make(MODEL_DISTRIBUTION, "m1", generation=2), None, {MD_1, MD_2, ON_A, ON_FAR}),
        (
            make(MODEL_DISTRIBUTION, "m1", generation=2),
            make(MODEL_DISTRIBUTION, "m1", generation=1),
            {MD_1, MD_2, ON_A, ON_FAR},
        ),
        (
            make(MODEL_DISTRIBUTION, "m1", generation=2, labels={"x": "y"}),
            make(MODEL_DISTRIBUTION, "m1", generation=2),
            {MD_1},
        ),
        (make(POD, "a-0", **NODE_LABEL), None, {ON_A, MD_1, MD_2}),
        (make(POD, "r-abc", **ROUTER_LABEL), None, {ROUTER_R}),
        (make(POD, "stray"), None, set()),
        (make(STATEFUL_SET, "a", **owned_by(OLLAMA_NODE, "a")), None, {ON_A}),
        (make(STATEFUL_SET, "a", **owned_by(OLLAMA_NODE, "a", False)), None, set()),
        (make(STATEFUL_SET, "a", **owned_by(DEPLOYMENT, "a")), None, set()),
        (make(SERVICE, "r", **ROUTER_LABEL, **owned_by(ROUTER, "r")), None, {ROUTER_R}),
        (make(CONFIG_MAP, "m1", **owned_by(MODEL_DISTRIBUTION, "m1")), None, {MD_1}),
        (make(NODE, "machine"), None, {ON_A, "OllamaNode/y/elsewhere"}),
        (make(RESOURCE_SLICE, "gpus"), None, {ON_A, "OllamaNode/y/elsewhere"}),
        (make(RESOURCE_SLICE, "gpus"), make(RESOURCE_SLICE, "gpus", resourceVersion="1"), set()),
        (
            make(RESOURCE_SLICE, "gpus", spec={"devices": []}),
            make(RESOURCE_SLICE, "gpus"),
            {ON_A, "OllamaNode/y/elsewhere"},
        ),
        (make(RESOURCE_CLAIM, "a-0-gpu-x", **NODE_LABEL), None, {ON_A}),
        (make(RESOURCE_CLAIM_TEMPLATE, "a-gpu-1", **NODE_LABEL), None, {ON_A}),
    ],
)
def test_whom_a_change_concerns(
    store: Store, obj: Object, before: Object | None, keys: set[str]
) -> None:
    assert {str(key) for key in affected(obj, before, store)} == keys


def aimed(kind: Kind, name: str, target: Any) -> Object:
    field = "target" if kind == MODEL_DISTRIBUTION else "select"
    return make(kind, name, "z", {field: target}, resourceVersion="1", generation=1)


A, B = make(OLLAMA_NODE, "a", "z"), make(OLLAMA_NODE, "b", "z", labels={"tier": "gold"})
OF_A, OF_GOLD, ROUTES_A = (
    "ModelDistribution/z/of-a",
    "ModelDistribution/z/of-gold",
    "Router/z/routes-a",
)
SERVER_OF_A: dict[str, Any] = {"labels": {"ollamafleet.dev/ollamanode": "a"}}


def relabelled(obj: Object, **labels: str) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}


def telling(obj: Object, state: str = "Ready", **more: object) -> Object:
    return {**obj, "status": {"servers": [{"name": "a-0", "state": state, **more}]}}


@pytest.mark.parametrize(
    ("obj", "before", "keys"),
    [
        (make(POD, "a-0", "z", **SERVER_OF_A), None, {"OllamaNode/z/a", OF_A}),
        (make(POD, "a-0", "z", labels={"ollamafleet.dev/ollamanode": "gone"}), None, None),
        # what its servers say, whoever plans with them hears from them
        (A, A, {"OllamaNode/z/a"}),
        (telling(A, installed=2, lastSeen="10:05"), telling(A, installed=1), {"OllamaNode/z/a"}),
        (telling(A, state="Offline"), telling(A), {"OllamaNode/z/a", OF_A, ROUTES_A}),
        (telling(A), A, {"OllamaNode/z/a", OF_A, ROUTES_A}),
        (telling(B, diskTotal="2G"), telling(B, diskTotal="1G"), {"OllamaNode/z/b", OF_GOLD}),
        (relabelled(B, tier="iron"), B, {"OllamaNode/z/b", OF_GOLD}),
        (B, relabelled(B, tier="iron"), {"OllamaNode/z/b", OF_GOLD}),
        (relabelled(B, tier="gold", x="y"), B, {"OllamaNode/z/b", OF_GOLD}),
        # what it is may be the same server as another's
        (make(OLLAMA_NODE, "a", "z", generation=2), A, {"OllamaNode/z/a", OF_A, OF_GOLD, ROUTES_A}),
        (aimed(MODEL_DISTRIBUTION, "of-a", {"ollamaNodes": ["a"]}), None, {OF_A, "OllamaNode/z/a"}),
        (
            make(MODEL_DISTRIBUTION, "of-a", "z", {"target": {"ollamaNodes": ["b"]}}, generation=2),
            aimed(MODEL_DISTRIBUTION, "of-a", {"ollamaNodes": ["a"]}),
            {OF_A, OF_GOLD, "OllamaNode/z/a", "OllamaNode/z/b"},
        ),
    ],
)
def test_a_change_concerns_those_who_mean_the_same_servers_and_no_others(
    obj: Object, before: Object | None, keys: set[str] | None
) -> None:
    store = Store()
    gold = {"selector": {"matchLabels": {"tier": "gold"}}}
    for one in (
        relabelled(A),
        B,
        aimed(MODEL_DISTRIBUTION, "of-a", {"ollamaNodes": ["a"]}),
        aimed(MODEL_DISTRIBUTION, "of-gold", gold),
        aimed(ROUTER, "routes-a", {"ollamaNodes": ["a"]}),
    ):
        store.put({**one, "metadata": {**one["metadata"], "resourceVersion": "1"}})
    everyone = {OF_A, OF_GOLD, "OllamaNode/z/gone"}
    assert {str(key) for key in affected(obj, before, store)} == (keys or everyone)


def test_a_storage_class_concerns_whoever_keeps_models_on_claims(store: Store) -> None:
    for name, spec in {
        "volumes": {"replicas": 1},
        "claim": {"replicas": 1, "storage": {"existingClaim": "kept"}},
        "folder": {"replicas": 1, "storage": {"hostPath": "/data"}},
        "nowhere": {"replicas": 1, "storage": {"ephemeral": True}},
        "machines": {"perNode": {}},
    }.items():
        store.put(make(OLLAMA_NODE, name, "z", spec, resourceVersion="1"))
    keys = affected(make(STORAGE_CLASS, "fast"), None, store)
    assert {str(key) for key in keys} == {"OllamaNode/z/volumes", "OllamaNode/z/claim"}


@pytest.mark.parametrize(
    "obj",
    [
        make(OLLAMA_NODE, "a"),
        make(POD, "a-0", **NODE_LABEL),
        make(STATEFUL_SET, "a", **owned_by(OLLAMA_NODE, "a")),
    ],
)
def test_whoever_may_let_go_of_a_store_concerns_those_that_wait_for_one(
    store: Store, obj: Object
) -> None:
    waits = make(OLLAMA_NODE, "waits", "z", resourceVersion="1")
    waits["status"] = {"conditions": [{"type": "Ready", "reason": "StoreShared"}]}
    store.put(waits)
    assert "OllamaNode/z/waits" in {str(key) for key in affected(obj, None, store)}
    stray = make(POD, "stray")
    assert affected(stray, None, store) == set()


def machine(**changes: Any) -> Object:
    obj = make(NODE, "machine", labels={"nvidia.com/gpu.memory": "24576"})
    obj["status"] = {
        "allocatable": {"nvidia.com/gpu": "1"},
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "10:00"}],
        "images": [],
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = obj
        for parent in parents:
            place = place[parent]
        place[last] = value
    return obj


@pytest.mark.parametrize(
    ("after", "concerns"),
    [
        (machine(), False),
        (machine(status__images=["ollama"]), False),
        (
            machine(
                status__conditions=[
                    {"type": "Ready", "status": "True", "lastHeartbeatTime": "10:05"}
                ]
            ),
            False,
        ),
        (machine(status__conditions=[{"type": "Ready", "status": "Unknown"}]), True),
        (machine(status__allocatable={"nvidia.com/gpu": "0"}), True),
        (machine(spec__taints=[{"key": "k"}]), True),
        (machine(spec__unschedulable=True), True),
        (machine(metadata__labels={}), True),
    ],
)
def test_a_heartbeat_wakes_nobody(store: Store, after: Object, concerns: bool) -> None:
    assert bool(affected(after, machine(), store)) == concerns
