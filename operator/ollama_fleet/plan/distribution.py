"""Planning a ModelDistribution: tasks, the pulls to start and to stop, and the status."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import ModelDistributionSpec, Target
from ollama_fleet.api.quantity import gib, seconds_of
from ollama_fleet.api.servers import is_meant
from ollama_fleet.plan import anew, preload, prune, timetable
from ollama_fleet.plan.choice import choices, tier_of
from ollama_fleet.plan.conditions import Verdict, conditions, transition
from ollama_fleet.plan.demands import Demand, key, meant, pins_on
from ollama_fleet.plan.disk import Blobs
from ollama_fleet.plan.drift import contradicted, drifting
from ollama_fleet.plan.leftovers import Leftover, leftovers
from ollama_fleet.plan.manifest import manifest, name_of
from ollama_fleet.plan.pullname import pull_name
from ollama_fleet.plan.result import Object, Plan
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.syncs import Comparable, Sync, compare
from ollama_fleet.plan.tasknotes import Told, notes_of
from ollama_fleet.plan.taskreport import counted, status_of
from ollama_fleet.plan.tasks import (
    RUNNING,
    Running,
    Seen,
    Task,
    canonical,
    held_back,
    plan_task,
    task_id,
    to_start,
)
from ollama_fleet.plan.timetable import Timetable

_REGISTRY_REMEDIES = {
    Reason.REGISTRY_UNREACHABLE: "Check the network, a proxy, or spec.source.registry",
    Reason.REGISTRY_UNAUTHORIZED: "Name a model or a registry that needs no credentials",
    Reason.RATE_LIMITED: "Ask it for less, or name a registry of your own",
}


@dataclass(frozen=True)
class PullOrder:
    """A pull to start. ``name`` is what the server is told to pull, ``model`` what it is for."""

    task: str
    server: str
    ollamanode: str
    url: str
    model: str
    name: str
    insecure: bool
    digest: str | None
    size: int
    stall_timeout: float
    blobs: Blobs = field(default_factory=dict)
    """What it will add to the server's store."""
    attempts: int = 0
    """Pulls that failed before."""


@dataclass(frozen=True)
class Around:
    """What is around a distribution in its namespace."""

    demands: Sequence[Demand] = ()
    """What every distribution wants, this one included."""
    shared: Collection[str] = ()
    """URLs of servers that several OllamaNodes have."""
    manifests: Sequence[Object] = ()
    """The ConfigMaps of its manifest, in order."""
    told: Told | None = None
    """What was told of its tasks last; None: it is not known but by its status."""


@dataclass(frozen=True)
class DistributionPlan:
    """A plan, and what becomes of the pulls."""

    plan: Plan
    start: tuple[PullOrder, ...] = ()
    keep: frozenset[str] = frozenset()
    """Ids of running tasks that are still wanted; every other is stopped."""
    delete: tuple[prune.Removal, ...] = ()
    """Models to delete."""
    compared: bool = False
    """Whether what is installed was compared with the registry."""
    tidy: tuple[Leftover, ...] = ()
    """Second names of models, to be removed."""
    told: Told = field(default_factory=lambda: Told.of(()))
    """What this plan tells of the tasks."""


def means(target: Target, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a target may mean servers of the OllamaNode of that name and those labels."""
    return is_meant(target.ollama_nodes, target.selector, name, labels)


def targeted(target: Target, servers: Iterable[Server]) -> list[Server]:
    """The servers a target means."""
    return [server for server in servers if meant(target, server)]


def plan_distribution(
    distribution: Object,
    servers: Sequence[Server],
    expected: bool,
    seen: Seen,
    now: datetime,
    around: Around | None = None,
    places: Callable[[int], int] = lambda wanted: wanted,
) -> DistributionPlan:
    """What to pull where, and the status, which tells of these pulls as begun.

    ``expected``: whether an OllamaNode that the target means exists, even if without servers yet.
    ``places`` tells how many of so many pulls may start now.
    """
    spec = ModelDistributionSpec.model_validate(distribution["spec"])
    meta = distribution["metadata"]
    around = around or Around()
    previous = distribution.get("status") or {}
    retry_at = anew.asked(distribution)
    seen = replace(seen, failures=anew.counting(seen.failures, retry_at, now))
    refused = timetable.refusal(spec.rollout, now)
    chosen = [] if refused else _expecting(targeted(spec.target, servers), seen)
    wanted = _tasks(spec, meta["namespace"], meta["name"], chosen, seen, around.demands)
    sync = Sync()
    if not refused:
        compared = (_comparable(task, seen) for task in wanted)
        sync = compare(spec, previous, compared, seen.compare, now)
        seen = replace(
            seen,
            outdated=sync.outdated,
            timetable=timetable.timetable(spec.rollout, now),
        )
    tasks = [task if task.contradicted else plan_task(spec, task, seen, now) for task in wanted]
    starting = to_start(spec, tasks, len(chosen))
    free = places(len(starting))
    held, starting = starting[free:], starting[:free]
    begun = replace(seen, running={task.id: Running() for task in starting})
    then = {task.id: plan_task(spec, task, begun, now) for task in starting}
    then |= {task.id: held_back(task) for task in held}
    tasks = [then.get(task.id, task) for task in tasks]
    idle = prune.unlisted(around.demands, chosen) if spec.prune == "Unlisted" else []
    verdict = refused or _verdict(spec, chosen, expected, tasks, seen.timetable)
    if not refused and not verdict.stalled:
        verdict = preload.refused(around.demands, meta["name"], chosen, now) or verdict
    verdict = replace(verdict, message=verdict.message + prune.told(spec, idle))
    status = status_of(tasks, previous, seen.timetable, sync, now)
    status["summary"]["unlisted"] = len(idle)
    kept: tuple[Object, ...] = ()
    if (chosen or around.manifests) and not refused and not spec.dry_run:
        kept = manifest(distribution, chosen, tasks, around.manifests, now)
    if parts := len(kept or around.manifests):
        status["manifestRef"] = {"name": name_of(meta["name"]), "parts": parts}
    generation = meta.get("generation", 1)
    status["observedGeneration"] = generation
    status["conditions"] = conditions(previous.get("conditions") or (), verdict, generation, now)
    return DistributionPlan(
        Plan(
            apply=kept,
            status=status,
            notes=(
                *notes_of(tasks, starting, around.told or Told.by_status(previous)),
                *drifting(tasks, previous),
                *transition(previous.get("conditions") or (), verdict),
            ),
            requeue_after=_next_change(tasks, seen.timetable, retry_at, now),
        ),
        start=tuple(_order(spec, task, seen) for task in starting),
        keep=frozenset(task.id for task in tasks if task.state in RUNNING and not spec.suspend),
        delete=prune.to_delete(spec, idle, chosen, tasks, seen.arriving, around.shared),
        compared=sync.done,
        tidy=() if spec.dry_run else leftovers(chosen, seen.mirror, seen.arriving),
        told=Told.of(tasks),
    )


def _expecting(servers: Iterable[Server], seen: Seen) -> list[Server]:
    """The servers, their stores holding already what is on its way to them."""
    return [
        replace(server, store=server.store.holding(seen.arriving[server.name]))
        if server.name in seen.arriving
        else server
        for server in servers
    ]


def _tasks(
    spec: ModelDistributionSpec,
    namespace: str,
    name: str,
    servers: Sequence[Server],
    seen: Seen,
    demands: Sequence[Demand],
) -> list[Task]:
    tasks = []
    pinning = [demand for demand in demands if demand.pinning]
    for server in servers:
        pins = pins_on(pinning, server)
        for choice in choices(spec, server, seen.registry):
            full = canonical(choice.model.name)
            pin = pins.get(key(full))
            task = Task(
                id=task_id(namespace, name, server.name, full),
                server=server,
                model=full,
                pin=choice.model.digest or (pin.digest if pin else None),
                why=choice.why,
                fit=choice.fit,
                undecided=choice.undecided,
            )
            if pin is not None and pin.digest != task.pin:
                task = contradicted(task, pin)
            tasks.append(task)
    return tasks


def _comparable(task: Task, seen: Seen) -> Comparable:
    fact, installed = seen.registry.get(task.model), task.server.probe.installed.get(task.model)
    return Comparable(
        task.model,
        installed.digest if installed else None,
        fact.digest if fact else None,
        pinned=task.pin is not None,
        unknown=fact is None or fact.error is not None,
    )


def _order(spec: ModelDistributionSpec, task: Task, seen: Seen) -> PullOrder:
    fact = seen.registry.get(task.model)
    assert task.server.url is not None
    mirror = None if task.server.external else seen.mirror
    name, insecure = pull_name(spec, task.model, mirror)
    return PullOrder(
        task=task.id,
        server=task.server.name,
        ollamanode=task.server.ollamanode,
        url=task.server.url,
        model=task.model,
        name=name,
        insecure=insecure,
        digest=task.pin or (fact.digest if fact else None),
        size=(fact.size if fact else None) or 0,
        stall_timeout=seconds_of(spec.rollout.stall_timeout),
        blobs=task.blobs,
        attempts=task.attempts,
    )


def _verdict(
    spec: ModelDistributionSpec,
    servers: Sequence[Server],
    expected: bool,
    tasks: list[Task],
    when: Timetable,
) -> Verdict:
    if not servers:
        if expected:
            return Verdict.underway("no server yet")
        return Verdict.stuck(
            Reason.NO_SERVERS,
            "no OllamaNode in this namespace matches spec.target. Make one, or correct the target.",
        )
    count = counted(tasks)
    told = f"{count.installed} of {count.desired} installed"
    if count.drifted:
        told += f", {count.drifted} with another digest"
    failed = next((task for task in tasks if task.state == "Failed"), None)
    if failed is not None:
        reason = failed.reason or Reason.PULL_FAILED
        return Verdict.stuck(reason, f"{failed.server.name}: {failed.message}")
    misfit = next((task for task in tasks if task.state == "Misfit"), None)
    if misfit is not None and misfit.reason is not None:
        # the others say themselves which server it is
        where = f" on {misfit.server.name}" if misfit.reason == Reason.DOES_NOT_FIT else ""
        return Verdict.stuck(misfit.reason, f"{misfit.model}{where}: {misfit.message}")
    unknown = next((task for task in tasks if task.reason == Reason.MEMORY_UNKNOWN), None)
    if unknown is not None:
        return Verdict.stuck(Reason.MEMORY_UNKNOWN, f"{unknown.server.name}: {unknown.message}")
    if (unfit := _untiered(spec, servers)) is not None:
        return unfit
    if spec.suspend:
        return Verdict(Reason.SUSPENDED, f"{told}; suspended")
    if spec.dry_run:
        waiting = sum(task.reason == Reason.DRY_RUN for task in tasks)
        return Verdict(Reason.DRY_RUN, f"{told}; {waiting} would be pulled")
    if (starting := _untold(spec, servers)) is not None:
        return Verdict.underway(f"{told}; {starting.name} has yet to tell its memory")
    if count.installed == count.desired:
        return Verdict.good(told)
    unasked = next((task for task in tasks if task.reason in _REGISTRY_REMEDIES), None)
    if unasked is not None and unasked.reason is not None and not count.pulling:
        remedy = _REGISTRY_REMEDIES[unasked.reason]
        return Verdict.stuck(
            unasked.reason, f"{unasked.message}. {remedy}; it is tried again by itself."
        )
    paused = sum(task.reason == Reason.OUTSIDE_WINDOW for task in tasks)
    if paused and not count.pulling:
        message = f"{told}; {paused} wait for the window, which opens {when.opening}"
        return Verdict.underway(message, Reason.OUTSIDE_WINDOW)
    return Verdict.underway(f"{told}, {count.pulling} pulling, {count.waiting} waiting")


def _untiered(spec: ModelDistributionSpec, servers: Sequence[Server]) -> Verdict | None:
    """Servers that tiers say nothing of, where tiers are all there is."""
    if not spec.tiers or spec.models or spec.best_fit:
        return None
    for server in servers:
        if tier_of(spec.tiers, server) is not None:
            continue
        size = server.memory.size
        if size is None and server.state != "Starting":
            return Verdict.stuck(
                Reason.MEMORY_UNKNOWN,
                f"{server.name}: its memory is {server.memory.source}. No tier can be chosen.",
            )
        if size is not None:
            return Verdict.stuck(
                Reason.NO_MATCHING_TIER,
                f"{server.name} has {gib(size)}, less than the smallest tier. Add a tier with a "
                "lower minMemory (0 for every server).",
            )
    return None


def _untold(spec: ModelDistributionSpec, servers: Sequence[Server]) -> Server | None:
    """A server that starts, whose tier is not known before it has a machine."""
    if not spec.tiers:
        return None
    starting = (server for server in servers if server.state == "Starting")
    return next((server for server in starting if server.memory.size is None), None)


def _next_change(
    tasks: Iterable[Task], when: Timetable, retry_at: datetime | None, now: datetime
) -> float | None:
    due = [task.next_attempt for task in tasks if task.next_attempt is not None] + when.edges()
    if retry_at is not None and retry_at > now:
        due.append(retry_at)
    return max(0.1, (min(due) - now).total_seconds()) if due else None
