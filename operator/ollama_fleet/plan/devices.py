"""GPUs as their drivers publish them (ResourceSlices), and who holds them (ResourceClaims)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.result import Object

Place = tuple[str, str, str]
"""Driver, pool and name: what a claim's allocation calls a device."""


@dataclass(frozen=True)
class Device:
    """One GPU, or one slice of one. ``memory`` is in bytes, None where the driver says none."""

    driver: str
    name: str
    machine: str | None
    memory: int | None
    product: str | None = None
    type: str | None = None
    """``gpu`` or ``mig``, where the driver tells."""


@dataclass(frozen=True)
class Allocation:
    """What a claim holds, and for which pods."""

    devices: tuple[Device | None, ...]
    """None for a device that no ResourceSlice names."""
    places: tuple[Place, ...]
    pods: tuple[str, ...]


@dataclass(frozen=True)
class Devices:
    """Every published device, and every allocated claim of a server."""

    by_place: Mapping[Place, Device] = field(default_factory=dict)
    allocations: Mapping[tuple[str, str], Allocation] = field(default_factory=dict)
    """By the claim's namespace and name."""
    refused: str | None = None
    """Why claims cannot be made, where the cluster does not serve them."""
    hidden: bool = False
    """Whether the cluster shows no ResourceSlices, be there some or none."""

    @classmethod
    def read(
        cls,
        slices: Iterable[Object],
        claims: Iterable[Object],
        refused: str | None = None,
        hidden: bool = False,
    ) -> "Devices":
        """From ResourceSlices, and the ResourceClaims of servers."""
        published = _published(slices)
        allocations = {
            (claim["metadata"]["namespace"], claim["metadata"]["name"]): made
            for claim in claims
            if (made := _allocation(claim, published)) is not None
        }
        return cls(published, allocations, refused, hidden)

    def of_pod(self, pod: Object) -> tuple[Device | None, ...]:
        """The devices allocated to a pod's claims; empty where there are none yet."""
        return tuple(device for held in self._held(pod) for device in held.devices)

    def lost(self, pod: Object) -> list[Place]:
        """What was allocated to a pod's claims and is published no longer."""
        if self.hidden:
            return []
        return [
            place
            for held in self._held(pod)
            for place, device in zip(held.places, held.devices, strict=True)
            if device is None
        ]

    def _held(self, pod: Object) -> list[Allocation]:
        namespace = pod["metadata"].get("namespace", "")
        return [
            held
            for made in pod.get("status", {}).get("resourceClaimStatuses") or ()
            if (name := made.get("resourceClaimName"))
            and (held := self.allocations.get((namespace, name))) is not None
        ]

    def on(self, machine: str, driver: str) -> list[Device]:
        """What a driver publishes on one machine."""
        return [
            device
            for device in self.by_place.values()
            if device.machine == machine and device.driver == driver
        ]

    def holders(self) -> dict[Place, str]:
        """Who has which device: ``namespace/pod``."""
        return {
            place: f"{namespace}/{held.pods[0] if held.pods else name}"
            for (namespace, name), held in self.allocations.items()
            for place in held.places
        }


def _published(slices: Iterable[Object]) -> dict[Place, Device]:
    """Devices of each pool's newest generation.

    A driver replaces slices one by one: until it is through, what it said before holds too.
    """
    pools: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for one in slices:
        pools[one["spec"]["driver"], one["spec"]["pool"]["name"]].append(one["spec"])
    made = {}
    for (driver, pool), specs in pools.items():
        for spec in _current(specs):
            for device in spec.get("devices") or ():
                made[driver, pool, device["name"]] = _device(driver, spec, device)
    return made


def _current(specs: list[Object]) -> list[Object]:
    """The slices of a pool that count, the newest last."""

    def generation(spec: Object) -> int:
        return int(spec["pool"].get("generation", 0))

    newest = max(map(generation, specs))
    current = [spec for spec in specs if generation(spec) == newest]
    complete = len(current) >= current[0]["pool"].get("resourceSliceCount", 1)
    return current if complete else sorted(specs, key=generation)


def _device(driver: str, spec: Object, device: Object) -> Device:
    memory = (_own(driver, device.get("capacity"), "memory") or {}).get("value")
    product, kind = (
        (_own(driver, device.get("attributes"), name) or {}).get("string")
        for name in ("productName", "type")
    )
    return Device(
        driver=driver,
        name=device["name"],
        machine=device.get("nodeName") or spec.get("nodeName"),
        memory=None if memory is None else bytes_of(memory),
        product=product,
        type=kind,
    )


def _own(driver: str, entries: Mapping[str, Any] | None, name: str) -> Mapping[str, Any] | None:
    """An entry in the driver's own domain, which may be left out."""
    found = (entries or {}).get(name) or (entries or {}).get(f"{driver}/{name}")
    return found if isinstance(found, Mapping) else None


def _allocation(claim: Object, published: Mapping[Place, Device]) -> Allocation | None:
    status = claim.get("status") or {}
    results = ((status.get("allocation") or {}).get("devices") or {}).get("results")
    if not results:
        return None
    places = tuple((one["driver"], one["pool"], one["device"]) for one in results)
    devices = tuple(
        _consumed(published.get(place), one) for place, one in zip(places, results, strict=True)
    )
    pods = tuple(
        one["name"] for one in status.get("reservedFor") or () if one.get("resource") == "pods"
    )
    return Allocation(devices, places, pods)


def _consumed(device: Device | None, result: Object) -> Device | None:
    """The device as far as this claim has it, where several share it."""
    if device is None or not (given := result.get("consumedCapacity")):
        return device
    memory = given.get("memory") or given.get(f"{device.driver}/memory")
    return replace(device, memory=bytes_of(memory)) if memory else device
