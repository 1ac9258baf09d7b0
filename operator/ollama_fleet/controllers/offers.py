"""What machines offer of GPUs, where less counts only once it lasts.

A device plugin that restarts, or a kubelet, takes all GPUs of a machine away for some seconds, and
no server there notices.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ollama_fleet.kube import Object

GRACE = 30.0
"""Seconds after which less is believed. What is found at the first look is believed at once."""


@dataclass(frozen=True, slots=True)
class _Offer:
    count: int
    less_since: float | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    machine: Object
    offers: dict[str, _Offer]
    shown: Object
    """The machine with what it is believed to offer."""

    @property
    def waits(self) -> bool:
        return any(offer.less_since is not None for offer in self.offers.values())


class Offers:
    """Remembers what each machine offered; times are a clock's monotonic seconds."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def steady(self, machines: Iterable[Object], now: float) -> dict[str, Object]:
        """The machines by name, with the extended resources that they are believed to offer."""
        self._known = {
            machine["metadata"]["name"]: self._look(machine, now) for machine in machines
        }
        return {name: known.shown for name, known in self._known.items()}

    def due(self, now: float) -> float | None:
        """Seconds until something less will be believed; None where nothing is."""
        moments = [
            offer.less_since + GRACE - now
            for known in self._known.values()
            for offer in known.offers.values()
            if offer.less_since is not None
        ]
        return max(0.0, min(moments)) if moments else None

    def _look(self, machine: Object, now: float) -> _Known:
        before = self._known.get(machine["metadata"]["name"])
        if before is not None and before.machine is machine and not before.waits:
            return before
        old, counts = before.offers if before else {}, _extended(machine)
        offers = {
            resource: _believed(old.get(resource), counts.get(resource, 0), now)
            for resource in counts.keys() | old.keys()
        }
        differing = {
            resource: str(offer.count)
            for resource, offer in offers.items()
            if offer.count != counts.get(resource, 0)
        }
        return _Known(machine, offers, _offering(machine, differing) if differing else machine)


def _believed(before: _Offer | None, count: int, now: float) -> _Offer:
    if before is None or count >= before.count:
        return _Offer(count)
    if before.less_since is None:
        return _Offer(before.count, now)
    return _Offer(count) if now - before.less_since >= GRACE else before


def _extended(machine: Object) -> dict[str, int]:
    allocatable = (machine.get("status") or {}).get("allocatable") or {}
    return {
        resource: int(count)
        for resource, count in allocatable.items()
        if "/" in resource and str(count).isdigit()
    }


def _offering(machine: Object, counts: dict[str, str]) -> Object:
    status = machine["status"]
    return {**machine, "status": {**status, "allocatable": {**status["allocatable"], **counts}}}
