"""A volume for each server of an OllamaNode: which there are, and how they grow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.conditions import Verdict
from ollama_fleet.plan.result import Object

PREFIX = "models-"
"""Claims are named by what the pod calls its volume, and the pod."""
TRY_AGAIN = 120.0
"""Seconds until a volume is to grow again that Kubernetes would not let grow."""
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_ERRORS = ("ControllerResizeError", "NodeResizeError")
_ON_MACHINE = "FileSystemResizePending"


@dataclass(frozen=True)
class Volumes:
    """The claims of an OllamaNode's servers, and what decides about them."""

    claims: Mapping[str, Object] = field(default_factory=dict)
    """PersistentVolumeClaims by name: those made for it, and the one it names."""
    classes: Mapping[str, Object] | None = None
    """StorageClasses by name; None where RBAC hides them."""
    users: tuple[Object, ...] = ()
    """Pods that use the claim it names."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why Kubernetes would not let a claim grow, by its name."""

    @property
    def default_classes(self) -> list[str]:
        """The classes that claims get that name none."""
        return [
            name
            for name, one in (self.classes or {}).items()
            if (one["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
        ]


def has_volumes(spec: OllamaNodeSpec) -> bool:
    """Whether each server has a volume of its own."""
    kept = spec.storage
    shared = kept.host_path or kept.existing_claim or kept.ephemeral
    return spec.replicas is not None and not shared


def claim_name(pod: str) -> str:
    """The claim of a StatefulSet's pod."""
    return f"{PREFIX}{pod}"


def is_claim_of(claim: str, ollamanode: str, replicas: int) -> bool:
    """Whether a claim belongs to one of that many servers."""
    pod, _, ordinal = claim.rpartition("-")
    return pod == claim_name(ollamanode) and ordinal.isdecimal() and int(ordinal) < replicas


def to_grow(name: str, spec: OllamaNodeSpec, volumes: Volumes) -> tuple[Object, ...]:
    """What to change of claims that are smaller than spec.storage.size, where they can grow.

    Claims grow once they are bound, and never shrink; those of servers scaled away stay as they
    are until the servers come back. The resourceVersion keeps a change made meanwhile.
    """
    return tuple(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {key: claim["metadata"][key] for key in _IDENTITY},
            "spec": {"resources": {"requests": {"storage": str(spec.storage.size)}}},
        }
        for claim in _small(name, spec, volumes)
        if _fixed(claim, volumes) is None
    )


def growth(name: str, spec: OllamaNodeSpec, volumes: Volumes, ready: bool) -> Verdict | None:
    """Why volumes are smaller than spec.storage.size; None if none is. ``ready``: but for that."""
    small = _small(name, spec, volumes)
    for claim in small:
        if (fixed := _fixed(claim, volumes)) is not None:
            fact, otherwise = fixed
            back = f"Set spec.storage.size back to {volume_size(name, spec, volumes)}"
            told = f"{_label(claim)} has {_requested(claim)}, {fact}. {back}{otherwise}."
            return Verdict.stuck(Reason.VOLUME_NOT_EXPANDABLE, told, ready=ready)
    growing = small + [one for one in _own(name, spec, volumes) if _grows(one)]
    if not growing:
        return None
    first, more = growing[0], len(growing) - 1
    told = f"{_label(first)} grows from {_capacity(first)} to {_goal(first, spec)}"
    others = f", {more} more too" if more else ""
    return Verdict.underway(f"{told}{_stage(first)}{others}")


def volume_size(name: str, spec: OllamaNodeSpec, volumes: Volumes) -> str | None:
    """What the volumes of all servers have, or are promised; None without any."""
    sizes = [_requested(one) for one in _own(name, spec, volumes)]
    return min(sizes, key=bytes_of, default=None)


_IDENTITY = ("name", "namespace", "resourceVersion")


def _own(name: str, spec: OllamaNodeSpec, volumes: Volumes) -> list[Object]:
    """The bound claims of the servers there should be, in their order."""
    if not has_volumes(spec):
        return []
    found = [
        claim
        for claim in volumes.claims.values()
        if is_claim_of(claim["metadata"]["name"], name, spec.replicas or 0)
        and (claim.get("status") or {}).get("phase") == "Bound"
        and not claim["metadata"].get("deletionTimestamp")
    ]
    return sorted(found, key=lambda one: int(one["metadata"]["name"].rpartition("-")[2]))


def _small(name: str, spec: OllamaNodeSpec, volumes: Volumes) -> list[Object]:
    # who writes no size keeps what there is
    if spec.storage.size is None:
        return []
    size = bytes_of(spec.storage.size)
    return [one for one in _own(name, spec, volumes) if bytes_of(_requested(one)) < size]


def _fixed(claim: Object, volumes: Volumes) -> tuple[str, str] | None:
    """Why a claim cannot grow, and what else to do about it; None if it can, as far as is known."""
    if why := volumes.refused.get(claim["metadata"]["name"]):
        return f"and Kubernetes will not let it grow: {why.rstrip('.')}", ", or mend that"
    if volumes.classes is None:
        return None
    chosen = claim["spec"].get("storageClassName")
    if not chosen:
        return "and no StorageClass: only volumes of one can grow", ""
    if chosen not in volumes.classes:
        return f"and its StorageClass {chosen} is gone", ", or make that class again"
    if volumes.classes[chosen].get("allowVolumeExpansion"):
        return None
    return f"and its StorageClass {chosen} lets none grow", (
        ", or allowVolumeExpansion of that class to true if its driver can grow volumes, or make a "
        "new OllamaNode with another class"
    )


def _grows(claim: Object) -> bool:
    return bytes_of(_capacity(claim)) < bytes_of(_requested(claim))


def _stage(claim: Object) -> str:
    """How far the growth of a claim has come, as far as Kubernetes tells."""
    told = {
        one["type"]: one.get("message") or ""
        for one in (claim.get("status") or {}).get("conditions") or ()
        if one.get("status") == "True"
    }
    if error := next((told[kind] for kind in _ERRORS if kind in told), None):
        return f" (its driver says: {error[:300]})"
    if _ON_MACHINE in told:
        return " (its file system does while the pod runs, or else when the pod is made anew)"
    return ""


def _label(claim: Object) -> str:
    return f"volume {claim['metadata']['name']}"


def _goal(claim: Object, spec: OllamaNodeSpec) -> str:
    return max(_requested(claim), str(spec.storage.size or "0"), key=bytes_of)


def _requested(claim: Object) -> str:
    return str(claim["spec"]["resources"]["requests"]["storage"])


def _capacity(claim: Object) -> str:
    return str(((claim.get("status") or {}).get("capacity") or {}).get("storage", "0"))


def uses(pod: Object, claim: str) -> bool:
    """Whether a pod that has not ended mounts a claim of its namespace."""
    volumes = pod["spec"].get("volumes") or ()
    claims = (one.get("persistentVolumeClaim") or {} for one in volumes)
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not ended and any(one.get("claimName") == claim for one in claims)


def by_name(objects: Iterable[Object]) -> dict[str, Object]:
    """Objects of one kind and namespace by their names."""
    return {one["metadata"]["name"]: one for one in objects}
