"""What pods use of their machines, as the cluster's metrics tell it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ollama_fleet.api.ollamanodestatus import ServerStatus
from ollama_fleet.api.quantity import bytes_of, cores_of, short_quantity
from ollama_fleet.plan.result import Object

_FIELDS = ("cpuUsed", "ramUsed")


@dataclass(frozen=True)
class Usage:
    """Cores, and bytes of the machine's own memory."""

    cpu: float
    memory: int


def usage_by_pod(metrics: Iterable[Object]) -> dict[str, Usage]:
    """The sums over the containers of each pod, from PodMetrics; not of those that have none."""
    found = {}
    for one in metrics:
        amounts = [container.get("usage") or {} for container in one.get("containers") or ()]
        if not amounts:
            continue
        found[one["metadata"]["name"]] = Usage(
            sum(cores_of(amount.get("cpu", "0")) for amount in amounts),
            sum(bytes_of(amount.get("memory", "0")) for amount in amounts),
        )
    return found


def with_usage(made: ServerStatus, before: Mapping[str, Any], usage: Usage | None) -> ServerStatus:
    """The status of a server, with new figures only where something else is new as well.

    They never stand still, and alone are no reason to write.
    """
    if usage is None:
        return made
    told = {field: before[field] for field in _FIELDS if field in before}
    rest = {field: value for field, value in before.items() if field not in told}
    if told and made.wire() == rest:
        cpu, ram = (told.get(field) for field in _FIELDS)
    else:
        cpu, ram = f"{round(usage.cpu * 100) * 10}m", short_quantity(usage.memory)
    return made.model_copy(update={"cpu_used": cpu, "ram_used": ram})
