"""Tasks: one model on one server, from wanted to verified."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.api.names import ModelName
from ollama_fleet.api.quantity import count_of, gib
from ollama_fleet.api.taskstatus import TaskState
from ollama_fleet.plan.architecture import Architecture
from ollama_fleet.plan.disk import Blobs, Store
from ollama_fleet.plan.retries import next_try, remedy
from ollama_fleet.plan.servers import Installed, Server
from ollama_fleet.plan.sizing import Fit, Weights
from ollama_fleet.plan.syncs import Pair
from ollama_fleet.plan.times import span
from ollama_fleet.plan.timetable import Timetable
from ollama_fleet.plan.troubles import Trouble

RUNNING: tuple[TaskState, ...] = ("Pulling", "Verifying")

_LESS = (
    "Lower sizing.contextLength or sizing.parallel, name fallbacks that need less, or set "
    "sizing.onMisfit to PullAnyway."
)


@dataclass(frozen=True)
class RegistryFact:
    """What the registry says of a model."""

    digest: str | None = None
    size: int | None = None
    blobs: Blobs = field(default_factory=dict)
    """What it is made of."""
    weights: Weights | None = None
    architecture: Architecture | None = None
    """None where the head of its file is not known, or says too little."""
    missing: bool = False
    error: str | None = None
    """Why the registry could not be asked, or would not answer."""
    reason: Reason = Reason.REGISTRY_UNREACHABLE
    """The same in one word."""


@dataclass(frozen=True)
class Running:
    """A pull under way. Bytes and bytes per second."""

    state: TaskState = "Pulling"
    completed: int = 0
    total: int = 0
    speed: int = 0
    eta: float | None = None


@dataclass(frozen=True)
class Failure:
    """How the latest pull of a task ended badly."""

    at: datetime
    attempts: int
    reason: Reason
    message: str
    losses: int = 0
    """How often, since it last got on, the server was lost: that is no attempt."""


@dataclass(frozen=True)
class Task:
    """One model on one server. ``name`` is what the registry is asked for."""

    id: str
    server: Server
    model: str
    pin: str | None
    why: str
    state: TaskState = "Waiting"
    reason: Reason | None = None
    message: str | None = None
    digest: str | None = None
    completed: int | None = None
    total: int | None = None
    speed: int | None = None
    attempts: int = 0
    next_attempt: datetime | None = None
    drifted: bool = False
    wanted: str | None = None
    """The digest that it drifted from."""
    failure: Failure | None = None
    blobs: Blobs = field(default_factory=dict)
    """What it is made of, as far as the registry says."""
    fit: Fit | None = None
    """Whether the server has the memory for it; None where the registry does not say its size."""
    undecided: Trouble | None = None
    """Why it is not known yet which model it is to be."""

    @property
    def wants_pull(self) -> bool:
        """Whether nothing but a free place keeps the pull from starting."""
        return self.state == "Waiting" and self.reason == Reason.PARALLEL_LIMIT

    @property
    def arriving(self) -> bool:
        """Whether its pull is under way, or begins as soon as others end."""
        places = (Reason.PARALLEL_LIMIT, Reason.OPERATOR_LIMIT)
        return self.state in RUNNING or (self.state == "Waiting" and self.reason in places)

    @property
    def contradicted(self) -> bool:
        """Whether another distribution has the say over which digest it is."""
        return self.reason == Reason.CONTRADICTORY_PIN


@dataclass(frozen=True)
class Seen:
    """What bears on tasks beside the servers themselves."""

    registry: Mapping[str, RegistryFact]
    """By canonical model name."""
    running: Mapping[str, Running]
    """By task id."""
    failures: Mapping[str, Failure]
    """By task id."""
    arriving: Mapping[str, Blobs] = field(default_factory=dict)
    """What is being pulled to each server, for whichever distribution."""
    compare: bool = False
    """Whether the registry was asked to compare what is installed with."""
    outdated: frozenset[Pair] = frozenset()
    """What was found to be so."""
    timetable: Timetable = field(default_factory=Timetable)
    mirror: Mirror | None = None
    """What servers in the cluster pull through; one elsewhere may not reach it."""


def task_id(namespace: str, distribution: str, server: str, model: str) -> str:
    """An id that is the same for the life of the task."""
    text = "\n".join((namespace, distribution, server, model))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=4096)
def canonical(model: str) -> str:
    """A model's name as servers list it: with its tag."""
    return ModelName.parse(model).canonical


class _Standing(NamedTuple):
    """Where a task has got to, and why."""

    state: TaskState
    reason: Reason
    message: str | None = None
    next_attempt: datetime | None = None


def plan_task(spec: ModelDistributionSpec, task: Task, seen: Seen, now: datetime) -> Task:
    """The task as it stands: installed, running, failed, or what it waits for."""
    if task.undecided is not None:
        return replace(task, reason=task.undecided.reason, message=task.undecided.message)
    fact = seen.registry.get(task.model, RegistryFact())
    failure = seen.failures.get(task.id)
    installed = task.server.probe.installed.get(task.model)
    running = _kept(spec, task, seen)
    good = installed is not None and _good(task, installed, fact, failure, seen)
    drifted = installed is not None and not good
    digest = installed.digest if installed and (drifted or running is None) else None
    completed, total, speed = 0, fact.size, None
    if running is not None:
        reason = Reason.PULLING if running.state == "Pulling" else Reason.VERIFYING
        stands = _Standing(running.state, reason, _pulling(running))
        completed, total, speed = running.completed, running.total or fact.size, running.speed
    elif installed is not None and good:
        stands = _Standing("Installed", Reason.INSTALLED)
        completed = total = installed.size
    else:
        stands = _not_installed(spec, task, drifted, fact, failure, seen.timetable, now)
    stands = _judged(task, stands)
    return replace(
        task,
        state=stands.state,
        reason=stands.reason,
        message=stands.message,
        next_attempt=stands.next_attempt,
        digest=digest,
        completed=completed,
        total=total,
        speed=speed,
        failure=failure,
        attempts=failure.attempts if failure else 0,
        drifted=drifted,
        wanted=(task.pin or fact.digest) if drifted else None,
        blobs=fact.blobs if running is None and not good else task.blobs,
    )


def _judged(task: Task, stands: _Standing) -> _Standing:
    """With the verdict on its memory in the message, unless that has something else to tell."""
    if task.fit is None or stands.state in ("Failed", "Misfit"):
        return stands
    told = stands.message or task.why
    if stands.state in RUNNING:
        return stands._replace(message=f"{told}; {task.fit}")
    if stands.state == "Installed" and not task.fit.fits:
        told = "it stays installed, and runs in part on the CPU, if at all"
        return stands._replace(reason=Reason.DOES_NOT_FIT, message=f"{task.fit}; {told}")
    return stands._replace(message=f"{task.fit}; {told}")


def _good(
    task: Task, installed: Installed, fact: RegistryFact, failure: Failure | None, seen: Seen
) -> bool:
    """Whether what is installed is what is wanted."""
    outdated = (
        not task.pin
        and (task.model, installed.digest) in seen.outdated
        and not fact.missing
        and fact.digest != installed.digest
    )
    expected = task.pin or (failure and failure.reason == Reason.DIGEST_MISMATCH and fact.digest)
    return not outdated and expected in (None, False, installed.digest)


def _kept(spec: ModelDistributionSpec, task: Task, seen: Seen) -> Running | None:
    """The task's pull, unless it is to stop: at the end of the window, but for one that has all
    its bytes, and on a server found unfit or too small."""
    running = seen.running.get(task.id)
    if running is None or task.server.state == "Unfit" or _too_large(spec, task):
        return None
    return None if seen.timetable.shut and running.state == "Pulling" else running


def _too_large(spec: ModelDistributionSpec, task: Task) -> bool:
    """Whether its size keeps a model away."""
    wanted = spec.sizing.on_misfit == "PullAnyway"
    return task.fit is not None and not task.fit.fits and not wanted


def _not_installed(
    spec: ModelDistributionSpec,
    task: Task,
    drifted: bool,
    fact: RegistryFact,
    failure: Failure | None,
    timetable: Timetable,
    now: datetime,
) -> _Standing:
    if spec.suspend:
        message = "suspended. Set spec.suspend to false to go on."
        return _Standing("Paused", Reason.SUSPENDED, message)
    if spec.pull_policy == "Never":
        state = "is not installed"
        if drifted:
            is_now = task.server.probe.installed[task.model].digest
            state = f"is {is_now} there, wanted is {task.pin or fact.digest}"
        reason = Reason.DIGEST_MISMATCH if drifted else Reason.NOT_INSTALLED
        return _Standing("Failed", reason, f"{task.model} {state}, and pullPolicy is Never.")
    if fact.missing:
        return _Standing(
            "Failed",
            Reason.MODEL_NOT_FOUND,
            f"{spec.source.registry} has no {task.model}. Correct the name or its tag.",
        )
    if task.pin and fact.digest and fact.digest != task.pin:
        return _Standing(
            "Failed",
            Reason.DIGEST_MISMATCH,
            f"{spec.source.registry} now gives {task.model} as {fact.digest}, the pin is "
            f"{task.pin}. Pin the new digest after review, or name a registry that keeps the old "
            "one.",
        )
    if _too_large(spec, task):
        return _Standing("Misfit", Reason.DOES_NOT_FIT, f"{task.fit}; {task.why}. {_LESS}")
    if task.server.state == "Unfit" and task.server.trouble is not None:
        return _Standing("Misfit", task.server.trouble.reason, task.server.trouble.message)
    if failure is not None and (tried := _tried(spec, task, failure, timetable, now)) is not None:
        return tried
    if not task.server.reachable:
        message = f"waits for the server, which is {task.server.state}."
        return _Standing("Waiting", Reason.SERVER_NOT_READY, message)
    if fact.error is not None:
        return _Standing("Waiting", fact.reason, fact.error)
    if not task.server.store.takes(fact.blobs):
        message = _no_room(task.server, fact.blobs)
        return _Standing("Misfit", Reason.NOT_ENOUGH_DISK, message)
    if spec.dry_run:
        size = f" ({gib(fact.size)})" if fact.size else ""
        when = f" from {timetable.opening} on" if timetable.shut else ""
        return _Standing(
            "Waiting",
            Reason.DRY_RUN,
            f"would be pulled{size}{when}. Set spec.dryRun to false.",
        )
    if timetable.shut:
        return _Standing(
            "Paused",
            Reason.OUTSIDE_WINDOW,
            f"waits for the window, which opens {timetable.opening}.",
        )
    return _Standing("Waiting", Reason.PARALLEL_LIMIT, "waits for another pull to end.")


def _tried(
    spec: ModelDistributionSpec,
    task: Task,
    failure: Failure,
    timetable: Timetable,
    now: datetime,
) -> _Standing | None:
    """What a pull that failed waits for; None where it may be tried again now."""
    attempts = spec.rollout.retry.attempts
    if failure.attempts >= attempts:
        return _Standing(
            "Failed",
            failure.reason,
            f"{failure.message} ({failure.attempts} attempts, the last allowed). "
            f"{remedy(failure.reason)}, then have it tried again: annotate it with "
            "ollamafleet.dev/retry-at and the time, or change the spec.",
        )
    again = failure.attempts + failure.losses
    due = next_try(spec.rollout.retry, task.id, failure.at, again)
    if not again or timetable.shut or not failure.at <= now < due:
        return None
    which = "It goes on" if failure.losses else f"Attempt {failure.attempts + 1} of {attempts}"
    return _Standing(
        "Waiting",
        Reason.BACKING_OFF,
        f"{failure.message} {which} at {due.astimezone(UTC):%H:%M:%S} UTC.",
        due,
    )


def _no_room(server: Server, blobs: Blobs) -> str:
    store = server.store
    return (
        f"needs {gib(store.lacks(blobs))}, free {gib(store.room or 0)} of "
        f"{gib(store.size or 0)} on {server.name} ({store.source}). {store.remedy}, or delete "
        "models there."
    )


def to_start(spec: ModelDistributionSpec, tasks: list[Task], servers: int) -> list[Task]:
    """The tasks to start now: within maxParallel and what each server's store takes, finishing
    servers rather than starting many."""
    running = [task for task in tasks if task.state in RUNNING]
    places = count_of(spec.rollout.max_parallel, servers) - len(running)
    open_tasks = [task for task in tasks if task.wants_pull]
    left: dict[str, int] = {}
    for task in (*open_tasks, *running):
        left[task.server.name] = left.get(task.server.name, 0) + 1
    begun = {task.server.name for task in tasks if task.state == "Installed"}
    open_tasks.sort(
        key=lambda task: (
            task.server.name not in begun,
            left[task.server.name],
            task.server.name,
        )
    )
    chosen: list[Task] = []
    stores: dict[str, Store] = {}
    for task in open_tasks:
        store = stores.get(task.server.name, task.server.store)
        if len(chosen) < places and store.takes(task.blobs):
            stores[task.server.name] = store.holding(task.blobs)
            chosen.append(task)
    return chosen


def held_back(task: Task) -> Task:
    """A task that only the operator's limit keeps from starting."""
    return replace(
        task,
        reason=Reason.OPERATOR_LIMIT,
        message="waits for a pull of another distribution to end: the operator runs no more at "
        "once (--max-parallel-pulls).",
    )


def _pulling(running: Running) -> str:
    if running.state == "Verifying":
        return "verifying the digest"
    left = "" if running.eta is None else f", {span(running.eta)} left"
    return f"{gib(running.completed)} of {gib(running.total)}{left}" if running.total else "begins"
