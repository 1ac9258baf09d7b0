"""Models that ModelDistributions keep in the memory of servers.

One place decides for a server what that is, for all distributions together, in the order they were
made in: those that find no room are told, rather than put another one out.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import Sizing, WantedModel
from ollama_fleet.api.quantity import gib
from ollama_fleet.plan import residency
from ollama_fleet.plan.conditions import Verdict
from ollama_fleet.plan.demands import Demand, Pin, key, listed, pins_on
from ollama_fleet.plan.result import LoadOrder, Object
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.sizing import Shape, fit
from ollama_fleet.plan.windows import UnknownTimeZone, hours

FOREVER = -1
"""The keep_alive of what stays in memory."""


@dataclass(frozen=True)
class LeftOut:
    """A model that is not kept in memory though it should be."""

    model: str
    distribution: str
    why: str


@dataclass(frozen=True)
class Kept:
    """What is kept in a server's memory, and what is not though it should be."""

    models: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    untouched: frozenset[str] = frozenset()
    """Keys of models that are left as they are: a dry run wants them in memory, or it is not known
    yet whether there is room for them."""


def kept(demands: Sequence[Demand], servers: Iterable[Server], now: datetime) -> dict[str, Kept]:
    """What is kept in memory, by server."""
    if not any(demand.preloading for demand in demands):
        return {server.name: Kept() for server in servers}
    return {server.name: kept_on(demands, server, now) for server in servers}


def kept_on(demands: Sequence[Demand], server: Server, now: datetime) -> Kept:
    """What belongs in the server's memory now, of what is installed as it should be."""
    pins = pins_on(demands, server)
    models: list[str] = []
    left: list[LeftOut] = []
    untouched: set[str] = set()
    held = 0
    for demand in demands:
        if demand.spec is None or not demand.means(server):
            continue
        for wanted in listed(demand.spec, server):
            if not wanted.preload or not _warm(wanted, now):
                continue
            if demand.spec.dry_run:
                untouched |= {key(name) for name in (wanted.name, *wanted.fallbacks)}
                continue
            model = _there(wanted, server, pins)
            if model is None or model in models:
                continue
            why = _no_place(server, models)
            if why is None and models and _undescribed(server, (*models, model)):
                untouched.add(key(model))
                continue
            need = _need(server, model, demand.spec.sizing)
            why = why or _no_room(server, models, held, need.alone)
            if why is not None:
                left.append(LeftOut(model, demand.name, why))
                continue
            models.append(model)
            held += need.beside
    return Kept(tuple(models), tuple(left), frozenset(untouched))


def _warm(wanted: WantedModel, now: datetime) -> bool:
    """Whether these are hours in which it is resident."""
    if wanted.schedule is None:
        return True
    try:
        return hours(wanted.schedule, now).open
    except UnknownTimeZone:
        return False


def _there(wanted: WantedModel, server: Server, pins: Mapping[str, Pin]) -> str | None:
    """The model, or its first fallback, that is installed with the digest it must have."""
    by_key = {key(name): name for name in server.probe.installed}
    for name in (wanted.name, *wanted.fallbacks):
        model = by_key.get(key(name))
        if model is None:
            continue
        pin = pins.get(key(name))
        if pin is None or server.probe.installed[model].digest == pin.digest:
            return model
    return None


def _undescribed(server: Server, models: Iterable[str]) -> bool:
    """Whether nobody was asked yet what one of these needs, as for a moment after a start of the
    operator: to judge by its size first would load what is to be let go of then."""
    if server.memory.size is None:
        return False
    return any(server.probe.installed[model].digest not in server.shapes for model in models)


class _Need(NamedTuple):
    """Bytes of memory that a model takes: those to have for it, and those beside others, where
    what is to stay free is counted once."""

    alone: int
    beside: int


def _need(server: Server, model: str, sizing: Sizing) -> _Need:
    """As it is computed for its task; where its shape is not known, what it holds now, or else its
    size. What it is measured to hold is not used otherwise: it would differ each time it goes."""
    installed = server.probe.installed[model]
    shape = server.shapes.get(installed.digest, Shape())
    if shape.architecture is None:
        size = server.probe.resident.get(model) or installed.size
        return _Need(size, size)
    load, weights = server.load.sized(sizing), shape.weighs(installed.size)
    alone, beside = (
        fit(weights, shape.architecture, how, server.memory.size).need
        for how in (load, replace(load, margin=0))
    )
    return _Need(alone, beside)


def _no_place(server: Server, models: Sequence[str]) -> str | None:
    """Why one more model would put another out of memory, whatever it needs; None if it need
    not."""
    if server.max_loaded is not None and len(models) >= server.max_loaded:
        return (
            f"server.maxLoadedModels is {server.max_loaded} and {', '.join(models)} comes first. "
            "Raise it, or preload fewer."
        )
    return None


def _no_room(server: Server, models: Sequence[str], held: int, need: int) -> str | None:
    """Why the memory does not hold one more model; None if it may. One alone is the server's own
    affair."""
    total = server.memory.size
    if models and total is not None and held + need > total:
        return (
            f"it needs {gib(need)}, {', '.join(models)} {gib(held)} of {gib(total)} and comes "
            "first. Preload fewer or smaller ones."
        )
    return None


def next_edge(demands: Iterable[Demand], now: datetime) -> float | None:
    """Seconds until the hours of some model begin or end; None where none has any."""
    edges = []
    for demand in demands:
        for model in demand.models:
            if model.schedule is not None:
                try:
                    edges.append((hours(model.schedule, now).edge - now).total_seconds())
                except UnknownTimeZone:
                    continue
    return max(0.1, min(edges)) if edges else None


def held_on(wanted: Kept, server: Server, before: Mapping[str, Any]) -> list[str]:
    """What status tells of a server: what is kept there, and what was and is still held."""
    was = [one for one in before.get("preloaded") or () if one in server.probe.lasting]
    return sorted({*wanted.models, *was})[:64]


def orders(
    wanted: Kept, server: Server, before: Mapping[str, Any], keep_alive: str
) -> tuple[LoadOrder, ...]:
    """What to load for good, and what goes back to the server's own ``keep_alive``."""
    if not server.answers or server.url is None:
        return ()
    load = [
        LoadOrder(server.name, server.url, model, FOREVER)
        for model in wanted.models
        if model not in server.probe.lasting
    ]
    after = _number(keep_alive)
    let_go = [
        LoadOrder(server.name, server.url, model, after)
        for model in before.get("preloaded") or ()
        if model in server.probe.lasting
        and model not in wanted.models
        and key(model) not in wanted.untouched
        and after != FOREVER
    ]
    return (*let_go, *load)


def loads(
    node: Object, servers: Iterable[Server], wanted: Mapping[str, Kept], keep_alive: str
) -> tuple[LoadOrder, ...]:
    """All that an OllamaNode's servers are to load, and to let go of."""
    told = (node.get("status") or {}).get("servers") or ()
    before = {one["name"]: one for one in told}
    return tuple(
        order
        for one in servers
        for order in (
            *orders(wanted[one.name], one, before.get(one.name, {}), keep_alive),
            *(each for each in residency.loads([one]) if each.model not in wanted[one.name].models),
        )
    )


def _number(keep_alive: str) -> int | str:
    """As Ollama's API takes it: a text without a unit must be a number there."""
    try:
        return int(keep_alive)
    except ValueError:
        return keep_alive


def refused(
    demands: Sequence[Demand], name: str, servers: Iterable[Server], now: datetime
) -> Verdict | None:
    """The verdict on a distribution some of whose models cannot be kept in memory."""
    if not any(demand.preloading for demand in demands):
        return None
    for model in (model for demand in demands if demand.name == name for model in demand.models):
        try:
            if model.schedule is not None:
                hours(model.schedule, now)
        except UnknownTimeZone as error:
            return Verdict.stuck(Reason.INVALID_SPEC, f"{model.name}: schedule.timeZone: {error}.")
    for server in servers:
        for left in kept_on(demands, server, now).left_out:
            if left.distribution == name:
                return Verdict.stuck(
                    Reason.NO_ROOM_TO_PRELOAD,
                    f"{server.name}: {left.model} is not kept in memory: {left.why}",
                )
    return None


def unloaded(
    servers: Iterable[Server], wanted: Mapping[str, Kept], failures: Mapping[tuple[str, str], str]
) -> Verdict | None:
    """A model that is to be kept in memory and does not load."""
    for server in servers:
        found: Collection[str] = wanted.get(server.name, Kept()).models
        for model in found:
            why = failures.get((server.url or "", model))
            if why is not None and model not in server.probe.resident:
                return Verdict.stuck(
                    Reason.LOAD_FAILED,
                    f"{server.name}: {model} is to be kept in memory, and does not load: "
                    f"{why.rstrip('.')}. Lower server.contextLength or server.parallel, or preload "
                    "another model.",
                )
    return None
