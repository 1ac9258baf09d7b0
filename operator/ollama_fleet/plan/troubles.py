"""What keeps a pod from running: a reason, the fact, and the remedy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.refusals import by_claim, by_resource
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


def together(troubles: Sequence[tuple[str, Trouble]]) -> Trouble | None:
    """One trouble to tell for all of an OllamaNode's, each with the server's name.

    The first by name, with the number of the others and their reasons where they differ.
    """
    if len(troubles) < 2:
        return troubles[0][1] if troubles else None
    (name, first), *others = sorted(troubles, key=lambda one: one[0])
    count = f"{len(others)} more server{'s' if len(others) > 1 else ''}"
    reasons = sorted({trouble.reason for _, trouble in others} - {first.reason})
    also = f"{count}: {', '.join(reasons)}" if reasons else count
    return Trouble(first.reason, f"{name}: {first.message} (and {also})")


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
        of = "" if container.get("name") in (None, "ollama") else f" -c {container['name']}"
        ending = "" if code is None else f" with exit code {code}"
        return Trouble(
            Reason.CRASH_LOOP,
            f"pod {pod} ends{ending} soon after each start ({container.get('restartCount', 0)} "
            f"restarts). See why with: kubectl logs {pod}{of} --previous",
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
    pod: Object,
    spec: OllamaNodeSpec,
    kubernetes_nodes: Iterable[Object],
    pods: Iterable[Object],
    devices: Devices,
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
    only = made_for(pod)
    able = [one for one in kubernetes_nodes if only in (None, one["metadata"]["name"])]
    if spec.gpu.allocation == "ResourceClaim":
        return Trouble(Reason.UNSCHEDULABLE, by_claim(spec, able, devices, said))
    return Trouble(Reason.UNSCHEDULABLE, by_resource(spec, able, pods, said))


def made_for(pod: Object) -> str | None:
    """The one machine that a DaemonSet made a pod for; None: any may take it."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and len(field.get("values") or ()) == 1:
                return str(field["values"][0])
    return None
