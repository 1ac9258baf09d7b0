"""Troubles of the machine a server runs on: it is away, or its GPUs are."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.result import Object, soonest
from ollama_fleet.plan.times import parsed
from ollama_fleet.plan.troubles import Trouble

JOINING = timedelta(minutes=1)
"""How long a new machine may take to become Ready: its network comes after its kubelet."""


def not_ready(pod: Object, machine: Object | None, now: datetime) -> Trouble | None:
    """That the pod's machine is not Ready, since when, and what to do; None while it is."""
    ready = _unready(machine)
    if machine is None or ready is None or _joins(machine, now):
        return None
    name, own = machine["metadata"]["name"], pod["metadata"]["name"]
    since = f" since {ready['lastTransitionTime']}" if ready.get("lastTransitionTime") else ""
    why = (ready.get("message") or ready.get("reason") or "").rstrip(".")
    message = (
        f"machine {name} is not Ready{since}{f': {why}' if why else ''}. Check its power, its "
        f"network and its kubelet: kubectl describe node {name}"
    )
    if pod["metadata"].get("deletionTimestamp"):
        message += (
            f". Pod {own} cannot end before it is back; if it never will be: kubectl delete node "
            f"{name}"
        )
    return Trouble(Reason.MACHINE_NOT_READY, message)


def joined_in(
    pods: Iterable[Object], kubernetes_nodes: Mapping[str, Object], now: datetime
) -> float | None:
    """Seconds until the machine of one of the pods should have become Ready; None: all have."""
    hosts = [kubernetes_nodes.get(pod["spec"].get("nodeName") or "") for pod in pods]
    waits = [_joins(host, now) for host in hosts if host is not None and _unready(host)]
    return soonest(*(wait or None for wait in waits))


def gpu_gone(
    pod: Object, machine: Object | None, resource: str, pods: Iterable[Object], devices: Devices
) -> Trouble | None:
    """What GPUs the pod's machine no longer offers though pods there hold them; None for none.

    ``pods`` are all that may hold GPUs there. Where the machine still offers some, none can say
    whose is gone: each server there is told of.
    """
    if machine is None or not _holds(pod):
        return None
    name, own = machine["metadata"]["name"], pod["metadata"]["name"]
    if lost := devices.lost(pod):
        driver = lost[0][0]
        what = f"{driver} no longer publishes {', '.join(place[2] for place in lost)} of {name}"
        return _gone(name, f"{what}, which pod {own} holds", "the GPU's driver")
    if not _asked(pod, resource):
        return None
    there = [other for other in pods if other["spec"].get("nodeName") == name and _holds(other)]
    offered, held = _offered(machine, resource), sum(_asked(one, resource) for one in there)
    if offered >= held:
        return None
    what = f"{name} offers {offered} {resource} where its pods hold {held}"
    return _gone(name, what, "the device plugin")


def without_gpus(pod: Object, machine: Object | None, resource: str, devices: Devices) -> bool:
    """Whether a pod's own GPUs are certainly gone."""
    if machine is None or not _holds(pod):
        return False
    return bool(devices.lost(pod)) or _offered(machine, resource) < _asked(pod, resource)


def offers_less(machine: Object | None, resource: str) -> bool:
    """Whether a machine offers less of an extended resource than it has."""
    capacity = ((machine or {}).get("status") or {}).get("capacity") or {}
    return machine is not None and _offered(machine, resource) < _count(capacity.get(resource))


def _gone(machine: str, what: str, plugin: str) -> Trouble:
    return Trouble(
        Reason.GPU_GONE,
        f"{what}: a GPU has failed, or {plugin} there has stopped. See kubectl describe node "
        f"{machine}, the pod of {plugin} on it, and its dmesg for NVRM: Xid or amdgpu errors.",
    )


def _holds(pod: Object) -> bool:
    """Whether a pod has been given its GPUs, and has them still."""
    phase = (pod.get("status") or {}).get("phase")
    return bool(pod["spec"].get("nodeName")) and phase not in ("Succeeded", "Failed")


def _asked(pod: Object, resource: str) -> int:
    return sum(
        _count(((container.get("resources") or {}).get("limits") or {}).get(resource))
        for container in pod["spec"].get("containers", ())
    )


def _offered(machine: Object, resource: str) -> int:
    return _count(((machine.get("status") or {}).get("allocatable") or {}).get(resource))


def _count(value: object) -> int:
    text = str(value)
    return int(text) if text.isdigit() else 0


def _unready(machine: Object | None) -> Object | None:
    """The condition Ready of a machine that is not."""
    known = ((machine or {}).get("status") or {}).get("conditions") or ()
    return next((one for one in known if one["type"] == "Ready" and one["status"] != "True"), None)


def _joins(machine: Object, now: datetime) -> float:
    """Seconds for which a machine still counts as new."""
    made = parsed(machine["metadata"].get("creationTimestamp"))
    return 0.0 if made is None else max(0.0, (made + JOINING - now).total_seconds())
