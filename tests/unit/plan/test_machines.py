from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.machines import offers_less
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.result import Plan
from ollama_fleet.plan.servers import servers_of
from ollama_fleet.plan.times import rfc3339
from tests.unit.plan.gpumachines import claim, published
from tests.unit.plan.objects import NOW, Object, machine, pod, probe, resource

URL = "http://10.0.0.1:11434"
NODE = resource("OllamaNode", "a", {"replicas": 1})
WORKLOAD: Object = {"spec": {"replicas": 1}, "status": {"updatedReplicas": 1}}
DOWN = {
    "type": "Ready",
    "status": "Unknown",
    "reason": "NodeStatusUnknown",
    "message": "Kubelet stopped posting node status.",
    "lastTransitionTime": "2026-03-01T11:58:00Z",
}


def offering(count: str | None, capacity: str = "1", **condition: str) -> Object:
    """The machine gpu-a with so many GPUs to give; None: the resource is gone altogether."""
    made = machine("gpu-a")
    made["status"] = {
        "allocatable": {} if count is None else {"nvidia.com/gpu": count},
        "capacity": {"nvidia.com/gpu": capacity},
        "conditions": [{**DOWN, "status": "True", **condition}],
    }
    return made


def plan(host: Object, *pods: Object, **more: Any) -> Plan:
    seen = Observed(WORKLOAD, pods or (pod("a-0"),), {"gpu-a": host}, {URL: probe()})
    return plan_ollamanode(NODE, replace(seen, **more), NOW)


def stalled(made: Plan) -> tuple[str, str]:
    """The reason and message of Stalled; UpToDate where it is not."""
    (one,) = (one for one in made.status["conditions"] if one["type"] == "Stalled")
    return one["reason"], one["message"]


def test_a_machine_that_is_not_ready_is_named_with_since_when() -> None:
    made = plan(offering("1", status="Unknown"))
    assert stalled(made) == (
        "MachineNotReady",
        "machine gpu-a is not Ready since 2026-03-01T11:58:00Z: Kubelet stopped posting node "
        "status. Check its power, its network and its kubelet: kubectl describe node gpu-a",
    )
    assert made.status["servers"][0]["state"] == "Offline"
    assert stalled(plan(offering("1"))) == ("UpToDate", "")


def test_a_machine_that_joins_is_given_time_to_become_ready() -> None:
    host = offering("1", status="False")
    host["metadata"]["creationTimestamp"] = rfc3339(NOW - timedelta(seconds=30))
    made = plan(host)
    assert stalled(made)[0] == "UpToDate"
    assert made.requeue_after == 30
    host["metadata"]["creationTimestamp"] = rfc3339(NOW - timedelta(seconds=60))
    made = plan(host)
    assert stalled(made)[0] == "MachineNotReady"
    assert made.requeue_after is None
    assert plan(offering("1")).requeue_after is None


def test_a_pod_that_cannot_end_there_is_explained() -> None:
    going = pod("a-0", ready=False)
    going["metadata"]["deletionTimestamp"] = "2026-03-01T11:59:00Z"
    made = plan(offering("1", status="False"), going)
    reason, message = stalled(made)
    assert reason == "MachineNotReady"
    assert "Pod a-0 cannot end before it is back" in message
    assert "kubectl delete node gpu-a" in message
    assert made.status["servers"][0]["state"] == "Offline"
    well = plan(offering("1"), going)
    assert stalled(well)[0] == "UpToDate"
    assert well.status["servers"][0]["state"] == "Draining"


@pytest.mark.parametrize("left", ["0", None])
def test_a_server_whose_gpu_is_gone_is_unfit(left: str | None) -> None:
    made = plan(offering(left))
    reason, message = stalled(made)
    assert reason == "GpuGone"
    assert "gpu-a offers 0 nvidia.com/gpu where its pods hold 1" in message
    assert "kubectl describe node gpu-a" in message
    assert "Xid" in message
    assert made.status["servers"][0]["state"] == "Unfit"


def test_where_some_are_left_each_server_there_is_told_and_none_is_unfit() -> None:
    made = plan(offering("1", "2"), pod("a-0"), pod("a-1"))
    reason, message = stalled(made)
    assert reason == "GpuGone"
    assert message.startswith("a-0: gpu-a offers 1 nvidia.com/gpu where its pods hold 2: ")
    assert message.endswith(" (and 1 more server)")
    assert {one["state"] for one in made.status["servers"]} == {"Ready"}


def test_other_ollamanodes_hold_gpus_too() -> None:
    other = pod("b-0")
    assert stalled(plan(offering("1", "2"), rivals=(other,)))[0] == "GpuGone"
    elsewhere = pod("b-0", on="gpu-b")
    ended = pod("b-0", phase="Succeeded")
    assert stalled(plan(offering("1", "2"), rivals=(elsewhere, ended)))[0] == "UpToDate"


def test_a_cpu_server_has_no_gpu_to_lose() -> None:
    node = resource("OllamaNode", "a", {"replicas": 1, "gpu": {"vendor": "none"}})
    plain = pod("a-0")
    plain["spec"]["containers"] = [{"resources": {}}]
    seen = Observed(WORKLOAD, (plain,), {"gpu-a": offering(None)}, {URL: probe()})
    assert stalled(plan_ollamanode(node, seen, NOW))[0] == "UpToDate"


@pytest.mark.parametrize(
    ("host", "less"),
    [(offering("1"), False), (offering("0"), True), (offering(None), True), (None, False)],
)
def test_a_machine_that_offers_less_than_it_has(host: Object | None, less: bool) -> None:
    assert offers_less(host, "nvidia.com/gpu") is less


def claimed(*slices: Object, hidden: bool = False) -> tuple[str, str, str]:
    """State, reason and message of a server that holds gpu-1 of gpu-a by a claim."""
    node = resource("OllamaNode", "a", {"replicas": 1, "gpu": {"allocation": "ResourceClaim"}})
    own = pod("a-0", resourceClaimStatuses=[{"name": "gpu", "resourceClaimName": "a-0-gpu"}])
    own["spec"]["containers"] = [{"resources": {"claims": [{"name": "gpu"}]}}]
    devices = Devices.read(slices, [claim("a-0-gpu", ("gpu-a", "gpu-1"))], hidden=hidden)
    seen = Observed(WORKLOAD, (own,), {"gpu-a": offering("0")}, {URL: probe()}, devices=devices)
    made = plan_ollamanode(node, seen, NOW)
    return (made.status["servers"][0]["state"], *stalled(made))


def generation(slices: Object, number: int, count: int) -> Object:
    pool = {"name": "gpu-a", "generation": number, "resourceSliceCount": count}
    return {**slices, "spec": {**slices["spec"], "pool": pool}}


def test_a_claimed_gpu_that_is_published_no_longer_is_gone() -> None:
    both, one = published("gpu-a", "24Gi", "24Gi"), published("gpu-a", "24Gi")
    assert claimed(both)[:2] == ("Ready", "UpToDate")
    state, reason, message = claimed(one)
    assert (state, reason) == ("Unfit", "GpuGone")
    assert "gpu.nvidia.com no longer publishes gpu-1 of gpu-a, which pod a-0 holds" in message
    assert claimed()[:2] == ("Unfit", "GpuGone")
    # a cluster that shows no slices says nothing of them
    assert claimed(hidden=True)[:2] == ("Ready", "UpToDate")


def test_a_driver_that_still_writes_its_slices_has_lost_nothing() -> None:
    both, one = published("gpu-a", "24Gi", "24Gi"), published("gpu-a", "24Gi")
    before = generation(both, 1, 1)
    assert claimed(before, generation(one, 2, 2))[:2] == ("Ready", "UpToDate")
    assert claimed(before, generation(one, 2, 1))[:2] == ("Unfit", "GpuGone")


def test_a_server_without_its_gpu_is_given_no_models() -> None:
    (server,) = servers_of(
        NODE,
        OllamaNodeSpec.model_validate(NODE["spec"]),
        [pod("a-0")],
        {"gpu-a": offering("0")},
        {URL: probe()},
        NOW,
    )
    assert not server.reachable
