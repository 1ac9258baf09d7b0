"""Comparing what is installed with what the registry has by now.

What a server has is good, whatever the registry gives later, until the two are compared: at the
times of rollout.schedule, and under pullPolicy Always. What is found outdated then is written down,
so that it stays so while its pull waits for a window or the operator is away, and nothing that the
registry gets in between becomes drift before its time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.api.taskstatus import OutdatedModel
from ollama_fleet.plan.schedules import InvalidSchedule, next_time
from ollama_fleet.plan.times import parsed
from ollama_fleet.plan.timetable import zone_of
from ollama_fleet.plan.windows import UnknownTimeZone

Pair = tuple[str, str]
"""A model's canonical name, and a digest of it."""
OUTDATED_SHOWN = 128


@dataclass(frozen=True)
class Comparable:
    """A model on a server, as far as comparing goes. ``digest``: of what the registry has."""

    model: str
    installed: str | None
    digest: str | None
    pinned: bool
    unknown: bool
    """The registry could not be asked."""


@dataclass(frozen=True)
class Sync:
    """What the latest comparison found."""

    last: datetime | None = None
    """When it was; or, before the first, since when the schedule counts."""
    outdated: frozenset[Pair] = frozenset()
    done: bool = False
    """Whether it was just now."""

    def wire(self) -> list[OutdatedModel]:
        """As status lists it."""
        pairs = sorted(self.outdated)[:OUTDATED_SHOWN]
        return [OutdatedModel(model=model, digest=digest) for model, digest in pairs]


def due(spec: ModelDistributionSpec, status: Mapping[str, Any], now: datetime) -> datetime | None:
    """The time of the schedule that has passed without a comparison, the first if several have:
    they are made up for together. None if there is none."""
    last = parsed(status.get("lastSync"))
    if spec.rollout.schedule is None or last is None:
        return None
    if last > now:
        # by a clock that has been set back since
        return now
    try:
        time = next_time(spec.rollout.schedule, zone_of(spec.rollout), last)
    except (InvalidSchedule, UnknownTimeZone):
        return None
    return time if time <= now else None


def compare(
    spec: ModelDistributionSpec,
    status: Mapping[str, Any],
    models: Iterable[Comparable],
    wanted: bool,
    now: datetime,
) -> Sync:
    """What is outdated; as status has it, unless a comparison is ``wanted`` and every model could
    be asked about."""
    if spec.rollout.schedule is None and spec.pull_policy != "Always":
        return Sync()
    models = list(models)
    if wanted and not any(model.unknown for model in models):
        outdated = frozenset(
            (model.model, model.installed)
            for model in models
            if model.installed and model.digest not in (None, model.installed) and not model.pinned
        )
        return Sync(now, outdated, done=True)
    listed = status.get("outdated") or ()
    last = parsed(status.get("lastSync"))
    if last is None and spec.rollout.schedule is not None:
        last = now
    return Sync(last, frozenset((one["model"], one["digest"]) for one in listed))
