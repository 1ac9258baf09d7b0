"""What keeps a pod from running: a reason, the fact, and the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of, gib
from ollama_fleet.plan.memory import enough, server_memory
from ollama_fleet.plan.result import Object

_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_REFUSED = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

CRASHES = 2
"""Restarts after which a container that is up, and not yet ready, still counts as crashing."""


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not run, and what to do about it."""

    reason: Reason
    message: str


def pod_trouble(pod: Object) -> Trouble | None:
    """What the pod itself says is wrong; None while it runs or is merely starting."""
    status = pod.get("status", {})
    for container in [
        *status.get("initContainerStatuses", ()),
        *status.get("containerStatuses", ()),
    ]:
        found = _container_trouble(pod["metadata"]["name"], container)
        if found:
            return found
    if status.get("phase") == "Failed":
        why = status.get("message") or status.get("reason") or "it failed"
        return Trouble(Reason.POD_REFUSED, f"pod {pod['metadata']['name']}: {why}")
    return None


def _container_trouble(pod: str, container: Object) -> Trouble | None:
    waiting = container.get("state", {}).get("waiting") or {}
    ended = (
        container.get("state", {}).get("terminated")
        or container.get("lastState", {}).get("terminated")
        or {}
    )
    reason = waiting.get("reason", "")
    if reason in _IMAGE:
        detail = waiting.get("message") or "it cannot be pulled"
        return Trouble(
            Reason.IMAGE_PULL_FAILED,
            f"image {container.get('image')}: {detail}. Check spec.image and its pullSecrets.",
        )
    if reason in _REFUSED:
        return Trouble(
            Reason.POD_REFUSED, f"pod {pod}: {waiting.get('message') or reason}. Correct the spec."
        )
    if ended.get("reason") == "OOMKilled" and not container.get("ready"):
        return Trouble(
            Reason.OUT_OF_MEMORY,
            f"pod {pod} used more memory than it may have and was killed "
            f"{container.get('restartCount', 1)} times. Raise spec.resources.limits.memory, or "
            "lower server.contextLength or server.parallel.",
        )
    again = container.get("restartCount", 0) >= CRASHES and not container.get("ready")
    if reason == "CrashLoopBackOff" or (again and ended.get("exitCode")):
        code = ended.get("exitCode")
        ending = "" if code is None else f" with exit code {code}"
        return Trouble(
            Reason.CRASH_LOOP,
            f"pod {pod} ends{ending} soon after each start ({container.get('restartCount', 0)} "
            f"restarts). See why with: kubectl logs {pod} --previous",
        )
    return None


def refused_by_scheduler(pod: Object) -> str | None:
    """Why no machine takes the pod, as the scheduler words it; None if one has, or none was
    tried yet."""
    for one in pod.get("status", {}).get("conditions", ()):
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return one.get("message", "") if one.get("reason") == "Unschedulable" else None
    return None


def scheduling_trouble(
    pod: Object, spec: OllamaNodeSpec, kubernetes_nodes: Iterable[Object], pods: Iterable[Object]
) -> Trouble | None:
    """Why no machine takes the pod, in GPU terms; None if one has, or nothing was tried yet."""
    said = refused_by_scheduler(pod)
    if said is None:
        return None
    if "PersistentVolumeClaim" in said or "persistentvolumeclaim" in said:
        return Trouble(
            Reason.VOLUME_UNBOUND,
            f"{said}. Check spec.storage.storageClassName, or that the cluster has a default "
            "StorageClass.",
        )
    if spec.gpu.vendor == "none":
        return Trouble(Reason.UNSCHEDULABLE, f"{said}. Lower spec.resources, or add a machine.")
    return Trouble(Reason.UNSCHEDULABLE, _in_gpu_terms(spec, kubernetes_nodes, pods, said))


def _in_gpu_terms(
    spec: OllamaNodeSpec, kubernetes_nodes: Iterable[Object], pods: Iterable[Object], said: str
) -> str:
    resource = spec.gpu.resource
    offering = [one for one in kubernetes_nodes if _allocatable(one, resource) > 0]
    if not offering:
        return (
            f"no machine offers {resource}. Install the GPU vendor's device plugin, correct "
            "spec.gpu.vendor, or set it to none to run on the CPU."
        )
    holders: dict[str, list[str]] = {}
    for other in pods:
        machine = other["spec"].get("nodeName")
        if machine and _requests(other, resource):
            meta = other["metadata"]
            holders.setdefault(machine, []).append(f"{meta['namespace']}/{meta['name']}")
    wanted = bytes_of(spec.gpu.memory) if spec.gpu.memory else 0
    refusals = []
    for machine in offering:
        name = machine["metadata"]["name"]
        size = server_memory(spec.model_copy(update={"gpu": _alone(spec)}), machine).size
        if machine["spec"].get("unschedulable"):
            refusals.append(f"{name} is cordoned")
        elif size is not None and not enough(size, wanted):
            refusals.append(f"{name} is too small ({gib(size)})")
        elif name in holders:
            refusals.append(f"{name} is taken by {', '.join(holders[name][:2])}")
        else:
            refusals.append(f"{name} is not free or not allowed by the template")
    least = f" with {gib(wanted)}" if wanted else ""
    shown = "; ".join(refusals[:6]) + ("; …" if len(refusals) > 6 else "")
    lower = "spec.gpu.memory" if wanted else "spec.replicas"
    return (
        f"0 of {len(offering)} GPU machines have {_gpus(spec)}{least} free: {shown}. "
        f"Lower {lower} or add a machine. (scheduler: {said[:300]})"
    )


def _alone(spec: OllamaNodeSpec) -> object:
    return spec.gpu.model_copy(update={"count": 1, "memory": None})


def _gpus(spec: OllamaNodeSpec) -> str:
    return "a GPU" if spec.gpu.count == 1 else f"{spec.gpu.count} GPUs"


def _allocatable(kubernetes_node: Object, resource: str) -> int:
    text = str((kubernetes_node.get("status", {}).get("allocatable") or {}).get(resource, "0"))
    return int(text) if text.isdigit() else 0


def _requests(pod: Object, resource: str) -> bool:
    return any(
        resource in (container.get("resources", {}).get("limits") or {})
        for container in pod["spec"].get("containers", ())
    )
