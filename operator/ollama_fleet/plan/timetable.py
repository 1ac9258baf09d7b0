"""What a rollout's window and schedule say at a moment."""

from dataclasses import dataclass
from datetime import datetime

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import Rollout
from ollama_fleet.plan.conditions import Verdict
from ollama_fleet.plan.schedules import InvalidSchedule, next_time
from ollama_fleet.plan.windows import Hours, UnknownTimeZone, hours, told


@dataclass(frozen=True)
class Timetable:
    """When pulls may run, and when digests are compared. None: the spec says nothing of it."""

    hours: Hours | None = None
    zone: str = "UTC"
    next_sync: datetime | None = None

    @property
    def shut(self) -> bool:
        """Whether no pull may run now."""
        return self.hours is not None and not self.hours.open

    @property
    def next_window(self) -> datetime | None:
        """When pulls may run again; None while they may."""
        return self.hours.opens if self.hours is not None and self.shut else None

    @property
    def opening(self) -> str:
        """The next window, as its own clock shows it; empty while it is open."""
        return told(self.next_window, self.zone) if self.next_window else ""

    def edges(self) -> list[datetime]:
        """The next moments at which any of this changes."""
        edge = self.hours.edge if self.hours is not None else None
        return [at for at in (edge, self.next_sync) if at is not None]


def zone_of(rollout: Rollout) -> str:
    """The time zone a rollout counts in: its window's, or else UTC."""
    return rollout.window.time_zone if rollout.window is not None else "UTC"


def timetable(rollout: Rollout, now: datetime) -> Timetable:
    """What the rollout says now; raises UnknownTimeZone and InvalidSchedule."""
    zone = zone_of(rollout)
    return Timetable(
        None if rollout.window is None else hours(rollout.window, now),
        zone,
        None if rollout.schedule is None else next_time(rollout.schedule, zone, now),
    )


def refusal(rollout: Rollout, now: datetime) -> Verdict | None:
    """The verdict on a window or a schedule that the API server let through and that is none."""
    try:
        timetable(rollout, now)
    except UnknownTimeZone as error:
        return Verdict.stuck(Reason.INVALID_SPEC, f"spec.rollout.window.timeZone: {error}.")
    except InvalidSchedule as error:
        return Verdict.stuck(Reason.INVALID_SPEC, f"spec.rollout.schedule: {error}.")
    return None
