"""Why a server has no volume to keep models on, and what to do about it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.servers import Server, pod_ready
from ollama_fleet.plan.times import parsed
from ollama_fleet.plan.troubles import Trouble, refused_by_scheduler
from ollama_fleet.plan.volumes import Volumes, claim_name, has_volumes

PATIENCE = timedelta(seconds=60)
"""How long a volume may take to be made before anybody is told."""
AGAIN = 30.0
"""Seconds between looks at a claim that is not watched."""
_BY_HAND = "kubernetes.io/no-provisioner"
_SELECTED = "volume.kubernetes.io/selected-node"
_BOUND = "pv.kubernetes.io/bind-completed"
_ELSEWHERE = "match PersistentVolume's node affinity"
_SHOWN = 8


def explained(
    servers: Iterable[Server],
    spec: OllamaNodeSpec,
    pods: Iterable[Object],
    volumes: Volumes,
    now: datetime,
) -> list[Server]:
    """The servers, with what is wrong with their volumes where that is what keeps them."""
    if not (has_volumes(spec) or spec.storage.existing_claim):
        return list(servers)
    by_name = {pod["metadata"]["name"]: pod for pod in pods}
    return [
        _explained(server, spec, by_name[server.name], volumes, now)
        if server.name in by_name
        else server
        for server in servers
    ]


def look_again(
    spec: OllamaNodeSpec, pods: Iterable[Object], volumes: Volumes, now: datetime
) -> float | None:
    """Seconds until a volume has taken too long, or its claim may have changed; None: no need."""
    waiting = [pod for pod in pods if not pod_ready(pod)]
    if spec.storage.existing_claim:
        return AGAIN if waiting else None
    claims = (volumes.claims.get(claim_name(pod["metadata"]["name"])) for pod in waiting)
    left = (_patience(claim, now) for claim in claims if claim is not None)
    return min((seconds for seconds in left if seconds > 0), default=None)


def _explained(
    server: Server, spec: OllamaNodeSpec, pod: Object, volumes: Volumes, now: datetime
) -> Server:
    if pod_ready(pod) or pod["metadata"].get("deletionTimestamp"):
        return server
    said = refused_by_scheduler(pod) or ""
    named = spec.storage.existing_claim or claim_name(server.name)
    claim = volumes.claims.get(named)
    if claim is None:
        # Kubernetes makes those of a template itself
        missing = spec.storage.existing_claim is not None
        trouble = _missing(named, pod) if missing else None
    elif _ELSEWHERE in said and server.trouble is not None:
        trouble = replace(server.trouble, message=_place(claim) + server.trouble.message)
    else:
        trouble = _of_claim(claim, spec, volumes, now) or _in_use(claim, pod, volumes)
        # what the scheduler said is old news once the claim is bound
        soon = _bound(claim) or _patience(claim, now) > 0
        if trouble is None and "PersistentVolumeClaim" in said and soon:
            return replace(server, trouble=None, state="Starting")
    return server if trouble is None else replace(server, trouble=trouble, state="Offline")


def _missing(named: str, pod: Object) -> Trouble:
    return _unbound(
        f"there is no PersistentVolumeClaim {named} in namespace {pod['metadata']['namespace']}. "
        "Make it, or write another in spec.storage.existingClaim."
    )


def _of_claim(
    claim: Object, spec: OllamaNodeSpec, volumes: Volumes, now: datetime
) -> Trouble | None:
    """What is wrong with a claim itself."""
    meta, phase = claim["metadata"], (claim.get("status") or {}).get("phase")
    named = f"claim {meta['name']}"
    if meta.get("deletionTimestamp"):
        return _unbound(
            f"{named} is being deleted, which ends when no pod uses it. Delete pods that do, or "
            "write another claim."
        )
    if phase == "Lost":
        return _unbound(
            f"{named} has lost its volume {claim['spec'].get('volumeName')}, and the models with "
            f"it. Make the volume again, or delete the claim: kubectl delete pvc {meta['name']}"
        )
    modes = claim["spec"].get("accessModes") or ()
    if modes and set(modes) == {"ReadOnlyMany"}:
        return _unbound(f"{named} can only be read. Name one with the access mode ReadWriteOnce.")
    if _bound(claim):
        return None
    return _pending(claim, named, spec, volumes, now)


def _pending(
    claim: Object, named: str, spec: OllamaNodeSpec, volumes: Volumes, now: datetime
) -> Trouble | None:
    """Why no volume is made for a claim."""
    if volumes.classes is None:
        return None
    chosen = claim["spec"].get("storageClassName")
    classes = _listed(volumes)
    if claim["spec"].get("volumeName"):
        return _unbound(
            f"{named} waits for the PersistentVolume {claim['spec']['volumeName']}, which is not "
            "there, or taken. Make or free it, or make the claim anew without volumeName."
        )
    if chosen is None:
        if volumes.default_classes:
            # it is given the default by Kubernetes itself
            return None
        mark = "storageclass.kubernetes.io/is-default-class=true"
        return _unbound(
            f"{named} names no StorageClass, and none is the cluster's default: {classes}. Mark "
            f"one: kubectl annotate storageclass NAME {mark}"
        )
    if chosen == "" or (volumes.classes.get(chosen) or {}).get("provisioner") == _BY_HAND:
        of_class = f" of class {chosen}" if chosen else " without a class"
        return _unbound(
            f"{named} waits for a PersistentVolume{of_class} of at least "
            f"{claim['spec']['resources']['requests']['storage']}, and nothing makes one by "
            "itself. Make one that the pod's machine can reach."
        )
    if chosen not in volumes.classes:
        other = _other_class(claim, spec)
        return _unbound(f"{named} wants StorageClass {chosen}; {classes}. Make that one{other}.")
    unplaced = _waits(volumes.classes[chosen]) and _SELECTED not in _annotations(claim)
    if unplaced or _patience(claim, now) > 0:
        return None
    return _unbound(
        f"{named} has waited for {PATIENCE.seconds} s for a volume of StorageClass {chosen}. Does "
        f"its provisioner {volumes.classes[chosen]['provisioner']} run? See: kubectl describe pvc "
        f"{claim['metadata']['name']}"
    )


def _other_class(claim: Object, spec: OllamaNodeSpec) -> str:
    if spec.storage.existing_claim:
        return ", or make the claim anew with another"
    return (
        ", or delete the OllamaNode and this claim, which holds nothing yet, and make it anew with "
        "another spec.storage.storageClassName"
    )


def _in_use(claim: Object, pod: Object, volumes: Volumes) -> Trouble | None:
    """Another machine has the volume, and only one can."""
    machine = pod["spec"].get("nodeName")
    modes = set(claim["spec"].get("accessModes") or ())
    if machine is None or modes & {"ReadWriteMany"}:
        return None
    for other in volumes.users:
        there, name = other["spec"].get("nodeName"), other["metadata"]["name"]
        if there not in (None, machine):
            return _unbound(
                f"claim {claim['metadata']['name']} can be used on one machine at a time: pod "
                f"{name} has it on {there}, and {pod['metadata']['name']} is on {machine}. Delete "
                "that pod, or write another spec.storage.existingClaim."
            )
    return None


def _bound(claim: Object) -> bool:
    return (claim.get("status") or {}).get("phase") == "Bound" or _BOUND in _annotations(claim)


def _place(claim: Object) -> str:
    machine = _annotations(claim).get(_SELECTED)
    where = f"lies on {machine}" if machine else "cannot be reached from every machine"
    return f"the volume of claim {claim['metadata']['name']} {where}, and the pod must too: "


def _patience(claim: Object, now: datetime) -> float:
    """Seconds for which a pending claim need not worry anybody."""
    made = parsed(claim["metadata"].get("creationTimestamp"))
    pending = (claim.get("status") or {}).get("phase") in (None, "Pending")
    if not pending or made is None:
        return 0.0
    return (made + PATIENCE - now).total_seconds()


def _listed(volumes: Volumes) -> str:
    names = sorted(volumes.classes or {})
    if not names:
        return "the cluster has none"
    default = volumes.default_classes
    shown = [f"{name} (default)" if name in default else name for name in names[:_SHOWN]]
    return f"there are {', '.join(shown)}{', …' if len(names) > _SHOWN else ''}"


def _waits(storage_class: Object) -> bool:
    return bool(storage_class.get("volumeBindingMode") == "WaitForFirstConsumer")


def _annotations(claim: Object) -> dict[str, str]:
    return claim["metadata"].get("annotations") or {}


def _unbound(message: str) -> Trouble:
    return Trouble(Reason.VOLUME_UNBOUND, message)
