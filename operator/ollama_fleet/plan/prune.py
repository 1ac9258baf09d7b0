"""Models on servers that no ModelDistribution wants there, where deleting them is asked for."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.api.quantity import gib
from ollama_fleet.plan.demands import Demand, key, listed, named
from ollama_fleet.plan.disk import Blobs
from ollama_fleet.plan.drain import Report
from ollama_fleet.plan.result import Note
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.tasks import Task

LOOK_AGAIN = 30.0
"""Seconds until it is looked again whether models that were in use still are."""
_NAMED = 3


@dataclass(frozen=True)
class Removal:
    """A model to delete from a server."""

    server: str
    ollamanode: str
    url: str
    model: str
    size: int
    resident: bool
    """Whether it is in memory, so that requests may be using it."""

    def __str__(self) -> str:
        return f"{self.model} on {self.server} ({gib(self.size)})"


def may_be_wanted(demands: Iterable[Demand], server: Server) -> set[str] | None:
    """The keys of all models that some distribution wants on a server or may come to want there;
    None: any may be, as a distribution cannot be read."""
    found: set[str] = set()
    for demand in demands:
        if not demand.means(server):
            continue
        spec = demand.spec
        if spec is None:
            return None
        # without its memory nobody can say which tier is the server's
        models = named(spec) if server.memory.size is None else listed(spec, server)
        found |= {key(name) for model in models for name in (model.name, *model.fallbacks)}
        found |= {key(name) for name in (spec.best_fit.candidates if spec.best_fit else ())}
    return found


def unlisted(demands: Sequence[Demand], servers: Iterable[Server]) -> list[Removal]:
    """Every model on these servers that nobody can want."""
    found = []
    for server in servers:
        if not server.probe.installed or server.url is None:
            continue
        wanted = may_be_wanted(demands, server)
        if wanted is None:
            continue
        resident = {key(model) for model in server.probe.resident}
        found += [
            Removal(
                server.name,
                server.ollamanode,
                server.url,
                model,
                installed.size,
                key(model) in resident,
            )
            for model, installed in sorted(server.probe.installed.items())
            if key(model) not in wanted
        ]
    return found


def to_delete(
    spec: ModelDistributionSpec,
    found: Iterable[Removal],
    servers: Iterable[Server],
    tasks: Iterable[Task],
    arriving: Mapping[str, Blobs],
    shared: Collection[str],
) -> tuple[Removal, ...]:
    """What may go now.

    Not on a server that has yet to get what takes its place, has a pull under way (``arriving``,
    by server), is not well, or is another OllamaNode's as well (``shared``, URLs).
    """
    if spec.suspend or spec.dry_run:
        return ()
    due = {
        task.server.name
        for task in tasks
        if task.state in ("Waiting", "Pulling", "Verifying", "Paused")
    }
    able = {
        server.name
        for server in servers
        if server.serving
        and server.probe.error is None
        and server.name not in due
        and server.name not in arriving
        and server.url not in shared
    }
    return tuple(one for one in found if one.server in able)


def in_use(removal: Removal, reports: Sequence[Report | None]) -> bool:
    """Whether requests may be using the model. ``reports`` are those of all routers; None: one
    did not answer."""
    for report in reports:
        use = None if report is None else report.get(removal.url)
        if report is None or (use is not None and use.in_flight and not use.models):
            return True
        if use is not None and any(key(model) == key(removal.model) for model in use.models):
            return True
    # without routers nobody counts requests: what is in memory may have some
    return removal.resident and not reports


def told(spec: ModelDistributionSpec, found: Sequence[Removal]) -> str:
    """What a message says of models that are to go."""
    if not found:
        return ""
    names = ", ".join(str(one) for one in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    if spec.dry_run:
        return f"; would delete {names}{more}"
    return f"; unlisted, deleted when nothing uses it: {names}{more}"


def notes(removed: Sequence[Removal]) -> tuple[Note, ...]:
    """The Event that says what was deleted."""
    if not removed:
        return ()
    names = ", ".join(str(one) for one in removed[:20])
    more = f" and {len(removed) - 20} more" if len(removed) > 20 else ""
    text = f"deleted, as no distribution wants it: {names}{more}"
    return (Note("Normal", "Pruned", text),)
