"""What a server's store can hold, what is free of it, and what one more model takes there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.sizing import Shape

Blobs = Mapping[str, int]
"""Bytes by digest."""

VOLUME = "models"
"""What the pod calls its store."""


@dataclass(frozen=True)
class Store:
    """Where a server keeps models. ``size`` is in bytes, None where nobody tells it."""

    size: int | None = None
    source: str = "unknown: the server has no pod yet"
    remedy: str = "Make the store larger"
    layers: Blobs = field(default_factory=dict)
    """What lies in it, each layer once, however many models share it."""
    whole: Blobs = field(default_factory=dict)
    """Models in it whose layers are not known, by the digest of the manifest."""

    @property
    def free(self) -> int | None:
        """Bytes that no model takes: at least so much, as models of unknown layers may share
        some."""
        if self.size is None:
            return None
        return max(0, self.size - sum(self.layers.values()) - sum(self.whole.values()))

    @property
    def room(self) -> int | None:
        """Bytes that may be free: at most so much, if models of unknown layers share all."""
        if self.size is None:
            return None
        least = max(sum(self.layers.values()), *self.whole.values(), 0)
        return max(0, self.size - least)

    def lacks(self, wanted: Blobs) -> int:
        """Bytes of these that are not there yet."""
        return sum(size for digest, size in wanted.items() if digest not in self.layers)

    def takes(self, wanted: Blobs) -> bool:
        """Whether there may be room for these: only what surely has none is kept from trying."""
        return self.room is None or self.lacks(wanted) <= self.room

    def holding(self, more: Blobs) -> "Store":
        """The store with these layers in it as well."""
        return replace(self, layers={**self.layers, **more}) if more else self


@dataclass(frozen=True)
class Disks:
    """What is known of the stores of a namespace, and of what models are made of."""

    claims: Mapping[str, Object] = field(default_factory=dict)
    """PersistentVolumeClaims by name."""
    layers: Mapping[str, Blobs] = field(default_factory=dict)
    """The layers of models, by the digest of their manifest."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """What they are like, by the same."""

    def filled(self, store: Store, models: Iterable[tuple[str, int]]) -> Store:
        """The store with these models in it, given by digest and size of each."""
        layers: dict[str, int] = {}
        whole: dict[str, int] = {}
        for digest, size in models:
            if digest in self.layers:
                layers |= self.layers[digest]
            else:
                whole[digest] = size
        return replace(store, layers=layers, whole=whole)

    def store(self, ollamanode: str, pod: Object, machine: Object | None) -> Store:
        """The store of a pod's server, empty."""
        volumes = pod["spec"].get("volumes") or ()
        volume: Object = next((one for one in volumes if one["name"] == VOLUME), {})
        if "persistentVolumeClaim" in volume:
            return self._claimed(ollamanode, pod, volume["persistentVolumeClaim"]["claimName"])
        if "emptyDir" in volume:
            return _ephemeral(pod, machine)
        return Store(
            source="unknown: a folder of the machine tells no size",
            remedy="Keep models in a volume (spec.storage.size), which tells its size",
        )

    def _claimed(self, ollamanode: str, pod: Object, name: str) -> Store:
        own = name == f"{VOLUME}-{pod['metadata']['name']}"
        remedy = (
            f"Raise spec.storage.size of OllamaNode {ollamanode}"
            if own
            else f"Grow PersistentVolumeClaim {name}"
        )
        status = (self.claims.get(name) or {}).get("status") or {}
        size = (status.get("capacity") or {}).get("storage")
        if size is None:
            return Store(source=f"unknown: volume {name} is not bound", remedy=remedy)
        return Store(bytes_of(size), f"volume {name}", remedy)


def elsewhere() -> Store:
    """The store of a server that is not a pod."""
    return Store(
        source="unknown: a server elsewhere does not tell it", remedy="Make room on its disk"
    )


def _ephemeral(pod: Object, machine: Object | None) -> Store:
    """What the machine gives to pods, or the container's own limit."""
    name = pod["spec"].get("nodeName")
    remedy = "Use a machine with more ephemeral storage, or keep models in a volume"
    given = ((machine or {}).get("status") or {}).get("allocatable") or {}
    limits = [
        (container.get("resources") or {}).get("limits") or {}
        for container in pod["spec"].get("containers") or ()
    ]
    known = [
        (bytes_of(amounts["ephemeral-storage"]), source)
        for amounts, source in (
            (given, f"ephemeral storage of {name}"),
            *((limit, "spec.resources.limits.ephemeral-storage") for limit in limits),
        )
        if "ephemeral-storage" in amounts
    ]
    if not known:
        return Store(source=f"unknown: {name} tells no ephemeral storage", remedy=remedy)
    size, source = min(known)
    return Store(size, source, remedy)
