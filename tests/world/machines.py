"""Machines that are lost, kubelets that are not heard of, pods that have to go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from ollama_fleet.kube.kinds import NODE, OLLAMA_NODE, POD, Object
from tests.cluster.waiting import eventually
from tests.world.ground import MACHINES, NAMESPACE, World
from tests.world.measure import Fault


def _machine_of(world: World, pod: str) -> str:
    found = world.fleet.get(POD, pod)
    assert found is not None
    return str(found["spec"]["nodeName"])


def _is_ready(world: World, machine: str) -> bool:
    node = world.api.get(NODE, machine) or {}
    return any(
        one["type"] == "Ready" and one["status"] == "True"
        for one in node["status"].get("conditions", ())
    )


def _unheard(world: World, machine: str) -> bool:
    return not _is_ready(world, machine)


def _pods_on(world: World, machine: str) -> list[Object]:
    return [pod for pod in world.fleet.all(POD) if pod["spec"].get("nodeName") == machine]


@contextmanager
def lost(world: World) -> Iterator[None]:
    """The machine of a server with a volume loses its power; its pods are deleted by force, as one
    who knows that it is off may do, and the server comes up elsewhere; the machine is back."""
    machine = _machine_of(world, "a-0")
    world.cluster.turn(machine, "off")
    try:
        eventually("Kubernetes knows", lambda: not _is_ready(world, machine))
        yield
        for pod in _pods_on(world, machine):
            name = pod["metadata"]["name"]
            world.fleet.delete(POD, name, gracePeriodSeconds=0)
        eventually("it is elsewhere", partial(_elsewhere, world, "a-0", machine), within=120)
    finally:
        world.cluster.turn(machine, "on")
        eventually("it is back", lambda: _is_ready(world, machine))


def _elsewhere(world: World, pod: str, machine: str) -> bool:
    found = world.fleet.get(POD, pod)
    return found is not None and found["spec"].get("nodeName") not in (None, machine)


@contextmanager
def restarted(world: World) -> Iterator[None]:
    """The kubelet of a server's machine is not heard of, while its containers go on."""
    machine = _machine_of(world, "a-0")
    world.cluster.turn(machine, "silent")
    try:
        yield
    finally:
        world.cluster.turn(machine, "on")
        eventually("it is heard of", lambda: _is_ready(world, machine))


@contextmanager
def all_silent(world: World) -> Iterator[None]:
    """No kubelet of the servers' machines reaches the API server, and there are no other servers;
    all else is well."""
    world.fleet.patch(OLLAMA_NODE, "box", {"spec": {"cordoned": True}})
    for machine in MACHINES:
        world.cluster.turn(machine, "silent")
    try:
        for machine in MACHINES:
            eventually("Kubernetes knows", partial(_unheard, world, machine))
        yield
    finally:
        for machine in MACHINES:
            world.cluster.turn(machine, "on")
        for machine in MACHINES:
            eventually("it is heard of", partial(_is_ready, world, machine))
        world.fleet.patch(OLLAMA_NODE, "box", {"spec": {"cordoned": None}})


def _uid(world: World, pod: str) -> str:
    found = world.fleet.get(POD, pod) or {"metadata": {}}
    return str(found["metadata"].get("uid", ""))


@contextmanager
def evicted(world: World) -> Iterator[None]:
    """A server's pod is evicted as `kubectl drain` does it; its streams may finish."""
    before = _uid(world, "a-0")
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "a-0", "namespace": NAMESPACE},
    }
    world.api.call("POST", f"{POD.path(NAMESPACE, 'a-0')}/eviction", body)
    eventually("it is another", lambda: _uid(world, "a-0") not in ("", before), within=120)
    yield


@contextmanager
def evicted_by_kubelet(world: World) -> Iterator[None]:
    """A machine is short of memory: its kubelet ends a pod at once, and calls it Failed."""
    before = _uid(world, "a-0")
    status = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: memory.",
    }
    path = f"{POD.path(NAMESPACE, 'a-0')}/status"
    world.cluster.kill_pod_process(NAMESPACE, "a-0")
    world.api.call("PATCH", path, {"status": status}, "application/strategic-merge-patch+json")
    eventually("it is another", lambda: _uid(world, "a-0") not in ("", before), within=120)
    yield


FAULTS = (
    Fault("machine lost, pods deleted", lost, says="MachineNotReady", may_cut=True),
    Fault("kubelet restarted (10 s)", restarted, seconds=10),
    Fault("kubelet silent (40 s)", restarted, seconds=40, says="MachineNotReady"),
    Fault("all kubelets silent", all_silent, seconds=30, says="MachineNotReady"),
    Fault("pod evicted by API", evicted),
    Fault("pod evicted by kubelet", evicted_by_kubelet, may_cut=True),
)
