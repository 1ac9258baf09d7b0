"""Models with another digest than is wanted, and pins that cannot both hold."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanodestatus import PinStatus
from ollama_fleet.plan.demands import Demand, Pin, pins_on
from ollama_fleet.plan.result import Note
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.tasks import Task

_NAMED = 3
"""How many of the models that drifted an Event names."""
PINS_TOLD, SERVERS_TOLD = 1024, 1000
"""As many as status may have, and as one of them may name."""


def contradicted(task: Task, pin: Pin) -> Task:
    """A task that wants another digest than an older distribution, which holds."""
    installed = task.server.probe.installed.get(task.model)
    return replace(
        task,
        state="Failed",
        reason=Reason.CONTRADICTORY_PIN,
        digest=installed.digest if installed else None,
        message=f"{task.model} is pinned to {task.pin} here, and to {pin.digest} by the older "
        f"ModelDistribution {pin.distribution}, which holds. Write its digest, none, or another "
        "target.",
    )


def drifting(tasks: Iterable[Task], previous: Mapping[str, Any]) -> tuple[Note, ...]:
    """The Event that tells of models which have taken another digest since the last status."""
    drifted = [task for task in tasks if task.drifted]
    before = (previous.get("summary") or {}).get("drifted", 0)
    if len(drifted) <= before:
        return ()
    told = "; ".join(
        f"{task.model} on {task.server.name} is {task.digest or 'another'}"
        for task in drifted[:_NAMED]
    )
    more = f"; and {len(drifted) - _NAMED} more" if len(drifted) > _NAMED else ""
    return (
        Note(
            "Warning",
            "Drifted",
            f"{told}{more}. What is pinned gets no requests until it is right.",
        ),
    )


def pins_told(demands: Iterable[Demand], servers: Iterable[Server]) -> list[PinStatus]:
    """The pins of an OllamaNode's servers, for its routers."""
    everyone = sorted(servers, key=lambda server: server.name)
    pinning = [demand for demand in demands if demand.pinning]
    held: dict[tuple[str, str], list[str]] = {}
    for server in everyone:
        for model, pin in pins_on(pinning, server).items():
            held.setdefault((model, pin.digest), []).append(server.name)
    told: list[PinStatus] = []
    for (model, digest), names in sorted(held.items()):
        few = [names[start : start + SERVERS_TOLD] for start in range(0, len(names), SERVERS_TOLD)]
        told += [
            PinStatus(model=model, digest=digest, servers=servers)
            for servers in ([None] if len(names) == len(everyone) else few)
        ]
    return told[:PINS_TOLD]
