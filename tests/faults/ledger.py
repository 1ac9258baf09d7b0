"""What became of the cluster, as an observer sees it whom no fault reaches."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from ollama_fleet.controllers.feed import WATCHED
from ollama_fleet.kube import Kube, NotFound
from ollama_fleet.kube.kinds import (
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    POD,
    ROUTER,
    Kind,
    Object,
)
from tests.faults.calls import plain_name

FOLLOWED = [kind for kind in WATCHED if kind.namespaced]
"""Where the cluster has them."""
_OURS = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)
_LEFT_OUT = {
    "uid", "resourceVersion", "creationTimestamp", "managedFields", "ownerReferences",
    "deletionTimestamp", "deletionGracePeriodSeconds", "clusterIP", "clusterIPs", "nodePort",
    "ollamafleet.dev/applied", "pod-template-hash", "controller-revision-hash",
    "deployment.kubernetes.io/revision", "id",
    "deprecated.daemonset.template.generation", "pod-template-generation",
    "ollamafleet.dev/template", "volumeName",
    # Kubernetes notes these where a claim was not bound at its first look
    "volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner",
}  # fmt: skip
_ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b")
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_POD = re.compile(r"\b[a-z][a-z-]*-[a-z0-9-]+\b")
_MACHINE = re.compile(r"\bgpu-\d+g\b")


class Ledger:
    """Watches every kind that the operator does; by namespace, `counts` tells how often an object
    was made and how often it went."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._tasks: list[asyncio.Task[None]] = []
        self._objects: dict[str, dict[tuple[Kind, str], Object]] = defaultdict(dict)
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)

    async def __aenter__(self) -> Self:
        for kind in FOLLOWED:
            if await self._served(kind):
                self._tasks.append(asyncio.create_task(self._follow(kind)))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _served(self, kind: Kind) -> bool:
        try:
            await self._kube.list_page(kind, limit=1)
        except NotFound:
            return False
        return True

    async def _follow(self, kind: Kind) -> None:
        async for event in self._kube.watch(kind):
            if event.type == "SYNCED":
                continue
            meta = event.object["metadata"]
            place = (kind, meta["name"])
            if event.type == "DELETED":
                self._objects[meta["namespace"]].pop(place, None)
            else:
                self._objects[meta["namespace"]][place] = event.object
            if event.type in ("ADDED", "DELETED"):
                which = f"{event.type.lower()} {kind} {plain_name(meta['name'])}"
                self.counts[meta["namespace"]][which] += 1

    def objects(self, namespace: str, kind: Kind) -> list[Object]:
        return [obj for (one, _), obj in self._objects[namespace].items() if one == kind]

    def labelled(self, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """Objects of whatever kind with these labels."""
        return [
            obj
            for obj in self._objects[namespace].values()
            if labels.items() <= (obj["metadata"].get("labels") or {}).items()
        ]

    def get(self, namespace: str, kind: Kind, name: str) -> Object | None:
        return self._objects[namespace].get((kind, name))

    def state(self, namespace: str) -> dict[str, Any]:
        """Everything there, but for what differs from one cluster to the next."""
        found: dict[str, Any] = plain(self.raw(namespace), namespace)
        return found

    def raw(self, namespace: str) -> dict[str, Any]:
        """Everything there, by kind and name."""
        found: dict[str, Any] = {}
        for (kind, name), obj in sorted(
            self._objects[namespace].items(), key=lambda one: (one[0][0].plural, one[0][1])
        ):
            key = f"{kind} {plain_name(name)}"
            found.setdefault(key, []).append(_gist(kind, obj))
        return found

    def forget(self, namespace: str) -> None:
        """The run in that namespace is over."""
        self._objects.pop(namespace, None)
        self.counts.pop(namespace, None)


def _gist(kind: Kind, obj: Object) -> Any:
    meta = {key: obj["metadata"].get(key) for key in ("labels", "annotations")}
    if kind in _OURS:
        return {**meta, "spec": obj["spec"], "status": obj.get("status")}
    if kind == POD:
        ready = [
            one["status"] for one in obj["status"].get("conditions") or () if one["type"] == "Ready"
        ]
        restarts = [one["restartCount"] for one in obj["status"].get("containerStatuses") or ()]
        going = "deletionTimestamp" in obj["metadata"]
        return {**meta, "ready": ready, "restarts": restarts, "going": going}
    rest = {key: obj[key] for key in ("spec", "data", "rules", "roleRef", "subjects") if key in obj}
    return {**meta, **rest}


def plain(value: Any, namespace: str) -> Any:
    """A state without what differs from one namespace, one machine and one moment to the next."""
    if isinstance(value, dict):
        return {key: plain(one, namespace) for key, one in value.items() if key not in _LEFT_OUT}
    if isinstance(value, list):
        return [plain(one, namespace) for one in value]
    if isinstance(value, str):
        text = _UID.sub("UID", value.replace(namespace, "NAMESPACE"))
        text = _MACHINE.sub("MACHINE", _TIME.sub("TIME", _ADDRESS.sub("ADDRESS", text)))
        return _POD.sub(lambda found: plain_name(found[0]), text)
    return value


def difference(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where two states differ, one line each."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            line
            for key in sorted({*wanted, *found}, key=str)
            for line in difference(wanted.get(key), found.get(key), f"{path}/{key}")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = zip(wanted, found, strict=True)
        return [
            line
            for at, (one, other) in enumerate(pairs)
            for line in difference(one, other, f"{path}[{at}]")
        ]
    return [] if wanted == found else [f"{path}: {wanted!r} was wanted, {found!r} is there"]
