"""One writer per store: which OllamaNodes would share the place where their models are kept."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.conditions import Verdict
from ollama_fleet.plan.result import Object, part
from ollama_fleet.plan.volumes import is_claim_of


@dataclass(frozen=True)
class Neighbour:
    """Another OllamaNode, of any namespace."""

    namespace: str
    name: str
    node: Object | None
    """None where it is gone, and its workload or pods are not yet."""
    pod_specs: tuple[Object, ...] = ()
    """Of its pods, and of those its workload makes."""


@dataclass(frozen=True)
class Store:
    """Where an OllamaNode keeps models, if another could write there too."""

    namespace: str
    folder: tuple[str, ...] | None = None
    """The names on a path, which are the same for ``/data`` and ``/data/``."""
    divided: bool = False
    """Whether each server has a folder of its own below."""
    claim: str | None = None
    servers: tuple[str, int] | None = None
    """An OllamaNode, and how many of its servers have a claim each."""

    def meets(self, other: "Store") -> bool:
        """Whether a writer of one could come upon the models of the other."""
        if self.folder is not None and other.folder is not None:
            if self.folder == other.folder:
                return not (self.divided and other.divided)
            common = min(len(self.folder), len(other.folder))
            return self.folder[:common] == other.folder[:common]
        if self.namespace != other.namespace:
            return False
        same = self.claim is not None and self.claim == other.claim
        return same or self._includes(other.claim) or other._includes(self.claim)

    def _includes(self, claim: str | None) -> bool:
        return claim is not None and self.servers is not None and is_claim_of(claim, *self.servers)

    def __str__(self) -> str:
        if self.folder is not None:
            return f"hostPath /{'/'.join(self.folder)}"
        return f"claim {self.claim}" if self.claim else "a claim of its servers"


def store_of(node: Object) -> Store | None:
    """Where the servers of an OllamaNode are to keep their models; None where nobody else can."""
    spec, namespace = part(node, "spec"), node["metadata"]["namespace"]
    storage, replicas = part(spec, "storage"), spec.get("replicas")
    if not isinstance(replicas, int):
        replicas = 0
    every = spec.get("perNode") is not None
    if not every and replicas == 0:
        return None
    if storage.get("hostPath"):
        return Store(namespace, folder=_names(str(storage["hostPath"])), divided=not every)
    if storage.get("existingClaim"):
        return Store(namespace, claim=str(storage["existingClaim"]))
    if every or storage.get("ephemeral"):
        return None
    return Store(namespace, servers=(node["metadata"]["name"], replicas))


def taken(
    node: Object,
    pods: Collection[Object],
    workload: Object | None,
    neighbours: Iterable[Neighbour],
) -> Verdict | None:
    """Why an OllamaNode must leave a store alone; None if it may write there.

    Whoever writes there already goes on; among those that do not yet, whoever was made first may.
    ``pods`` and ``workload`` are its own.
    """
    mine, namespace = store_of(node), node["metadata"]["namespace"]
    if mine is None:
        return None
    # those whose owner is gone follow it, and no other workload can take them over
    leaving = [pod for pod in pods if _leaves(pod["metadata"])]
    if workload is None and _writes(mine, namespace, templates(leaving, None)):
        return _waits(mine, f"its earlier pod {leaving[0]['metadata']['name']}")
    writes = _writes(mine, namespace, templates(pods, workload))
    waits = None
    for other in sorted(neighbours, key=lambda one: (one.namespace, one.name)):
        wanted = store_of(other.node) if other.node is not None else None
        wants = wanted is not None and wanted.meets(mine)
        theirs = _writes(mine, other.namespace, other.pod_specs)
        first = wants and _made(other.node) < _made(node)
        if not (first if theirs == writes else theirs):
            continue
        if wanted is not None and wants:
            return _told(mine, wanted, other)
        waits = waits or _waits(mine, f"the pods of OllamaNode {other.namespace}/{other.name}")
    return waits


def templates(pods: Iterable[Object], workload: Object | None) -> tuple[Object, ...]:
    """The specs of pods that run or will, and of those that a workload makes."""
    found = [pod["spec"] for pod in pods if not _ended(pod)]
    made = (workload or {}).get("spec") or {}
    if "template" in made and made.get("replicas") != 0:
        found.append(made["template"]["spec"])
    return tuple(found)


def _leaves(meta: Object) -> bool:
    owned = any(owner.get("controller") for owner in meta.get("ownerReferences") or ())
    return owned or "deletionTimestamp" in meta


def _ended(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _waits(mine: Store, whom: str) -> Verdict:
    return Verdict.underway(
        f"waits for {whom} to end, for a store has one writer: {mine}", Reason.STORE_SHARED
    )


def _told(mine: Store, theirs: Store, other: Neighbour) -> Verdict:
    field = "hostPath" if mine.folder is not None else "existingClaim"
    overlaps = "" if mine.folder == theirs.folder else f", and {mine} overlaps it"
    there = " there" if mine.servers else ""
    return Verdict.stuck(
        Reason.STORE_SHARED,
        f"{mine if theirs.servers else theirs} is the store of OllamaNode {other.namespace}/"
        f"{other.name}{overlaps}, and a store has one writer. Write another spec.storage.{field}"
        f"{there}, or delete one of the two.",
    )


def _writes(store: Store, namespace: str, pod_specs: Iterable[Object]) -> bool:
    found = (_store_in(namespace, one) for one in pod_specs)
    return any(one is not None and one.meets(store) for one in found)


def _store_in(namespace: str, pod_spec: Object) -> Store | None:
    """Where a pod keeps models, by its volume of that name."""
    for volume in pod_spec.get("volumes") or ():
        if volume["name"] != "models":
            continue
        if "hostPath" in volume:
            mounts = (mount for one in pod_spec["containers"] for mount in one["volumeMounts"])
            divided = any(one["name"] == "models" and one.get("subPathExpr") for one in mounts)
            return Store(namespace, folder=_names(volume["hostPath"]["path"]), divided=divided)
        if "persistentVolumeClaim" in volume:
            return Store(namespace, claim=volume["persistentVolumeClaim"]["claimName"])
    return None


def _names(path: str) -> tuple[str, ...]:
    return tuple(name for name in path.split("/") if name not in ("", "."))


def _made(node: Object | None) -> tuple[str, str, str]:
    meta = (node or {}).get("metadata") or {}
    made = meta.get("creationTimestamp") or ""
    return made, meta.get("namespace") or "", meta.get("name") or ""
