"""Requirements: who meets them, and what becomes of those that do not."""

from dataclasses import replace
from typing import Any

import pytest

from ollama_fleet.api.ollamanode import Requirements
from ollama_fleet.plan.disk import Disks, Store
from ollama_fleet.plan.memory import Memory
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.preflight import unmet
from tests.unit.plan.objects import GIB, NOW, Object, machine, probe, resource, stored, volume

LABEL = "label nvidia.com/gpu.memory"
URL = "http://10.0.0.1:11434"


@pytest.mark.parametrize(
    ("wanted", "memory", "disk", "told"),
    [
        ({}, None, None, ""),
        ({"memory": "16Gi"}, 16 * GIB, None, ""),
        # a "16 GB" card is one
        ({"memory": "16Gi"}, int(15.6 * GIB), None, ""),
        (
            {"memory": "16Gi"},
            int(11.9 * GIB),
            None,
            f"a-0 needs 16 GiB of memory for models, has 11.9 GiB ({LABEL}). Lower "
            "spec.requirements.memory, or use a machine with more.",
        ),
        (
            {"memory": "16Gi"},
            None,
            None,
            "a-0 needs 16 GiB of memory for models, and what it has is unknown: no label. Lower",
        ),
        ({"disk": "50Gi"}, None, 50 * GIB, ""),
        (
            {"disk": "50Gi"},
            None,
            50 * GIB - 1,
            "a-0 needs 50 GiB of disk for models, has 50 GiB (volume v). Grow v, or lower "
            "spec.requirements.disk.",
        ),
        (
            {"disk": "50Gi"},
            None,
            None,
            "a-0 needs 50 GiB of disk for models, and what it has is unknown: a folder. Grow v",
        ),
        ({"memory": "8Gi", "disk": "8Gi"}, 8 * GIB, GIB, "a-0 needs 8 GiB of disk"),
        ({"memory": "8Gi", "disk": "8Gi"}, GIB, GIB, "a-0 needs 8 GiB of memory"),
    ],
)
def test_what_a_server_lacks(
    wanted: Object, memory: int | None, disk: int | None, told: str
) -> None:
    has = Memory(memory, LABEL if memory else "unknown: no label")
    store = Store(disk, "volume v" if disk else "unknown: a folder", "Grow v")
    trouble = unmet("a-0", Requirements.model_validate(wanted), has, store)
    if not told:
        assert trouble is None
    else:
        assert trouble is not None
        assert trouble.reason == "RequirementsUnmet"
        assert trouble.message.startswith(told)
        assert trouble.message.endswith("stays, and is served.")


def node(**spec: Any) -> Object:
    return resource("OllamaNode", "a", {"replicas": 1, **spec})


def observe(**changes: Any) -> Observed:
    seen = Observed(
        workload={"spec": {}, "status": {"updatedReplicas": 1}},
        pods=(stored("a-0", "models-a-0"),),
        kubernetes_nodes={"gpu-a": machine("gpu-a", 12)},
        probes={URL: probe(llama3_1__8b="sha256:one")},
        disks=Disks({"models-a-0": volume("models-a-0", "20Gi")}),
    )
    return replace(seen, **changes)


@pytest.mark.parametrize(
    ("wanted", "state"),
    [
        ({"memory": "16Gi"}, "Unfit"),
        ({"memory": "12Gi"}, "Ready"),
        ({"disk": "20Gi"}, "Ready"),
        # of what it holds, and not of what is free
        ({"disk": "21Gi"}, "Unfit"),
    ],
)
def test_an_unfit_server_says_why_and_stays(wanted: Object, state: str) -> None:
    plan = plan_ollamanode(node(requirements=wanted), observe(), NOW)
    (server,) = plan.status["servers"]
    assert server["state"] == state
    assert (server["diskTotal"], server["diskFree"]) == ("20Gi", "15Gi")
    assert "StatefulSet" in [obj["kind"] for obj in plan.apply]
    told = {one["type"]: one for one in plan.status["conditions"]}
    assert told["Stalled"]["status"] == ("True" if state == "Unfit" else "False")
    if state == "Unfit":
        assert told["Ready"]["reason"] == "RequirementsUnmet"
        assert server["message"] == told["Ready"]["message"]
        again = plan_ollamanode(
            {**node(requirements=wanted), "status": plan.status}, observe(), NOW
        )
        assert (again.status, again.notes) == (plan.status, ())


@pytest.mark.parametrize(
    ("memory", "state"),
    [({"memory": "24Gi"}, "Ready"), ({"memory": "8Gi"}, "Unfit"), ({}, "Unfit")],
)
def test_external_servers_are_checked_too(memory: Object, state: str) -> None:
    spec = {"external": {"url": URL}, "gpu": memory, "requirements": {"memory": "16Gi"}}
    plan = plan_ollamanode(
        resource("OllamaNode", "box", spec), Observed(None, (), {}, {URL: probe()}), NOW
    )
    assert plan.status["servers"][0]["state"] == state


def test_a_server_that_is_not_ready_has_other_troubles() -> None:
    spec = {"requirements": {"memory": "80Gi"}, "cordoned": True}
    plan = plan_ollamanode(node(**spec), observe(), NOW)
    assert plan.status["servers"][0]["state"] == "Draining"
    assert plan.status["conditions"][0]["reason"] == "Cordoned"
