"""Hours of the week that something is done in.

A window is open while the clock on the wall, in its time zone, shows a time from start to end.
Where the clock is put forward over one of them, that edge is the moment of the jump: a window that
lies within the jump does not open that day. Where a time comes twice, the first one counts. So a
window opens once a day at most, never runs on when the clock has shown its end, and is an hour
shorter or longer when the clock changes within it. All moments are UTC, all spans real time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import count
from zoneinfo import ZoneInfo

from ollama_fleet.api.modeldistribution import Window

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SECOND = timedelta(seconds=1)
_NEVER = timedelta(days=15)


class UnknownTimeZone(ValueError):  # noqa: N818
    """No time zone has that name; the text says what to write."""


@dataclass(frozen=True)
class Hours:
    """How a window stands at a moment."""

    closes: datetime | None
    """When it closes; None while it is shut."""
    opens: datetime
    """When it opens next: later than now, and than ``closes``."""

    @property
    def open(self) -> bool:
        """Whether it is open."""
        return self.closes is not None

    @property
    def edge(self) -> datetime:
        """When it changes next."""
        return self.closes or self.opens


@cache
def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; raises UnknownTimeZone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UnknownTimeZone(
            f"no time zone is called {name}: write an IANA name, such as UTC or Asia/Shanghai"
        ) from None


def hours(window: Window, now: datetime) -> Hours:
    """How the window stands; raises UnknownTimeZone."""
    openings = _openings(window, now)
    opens, closes = next(one for one in openings if one[1] > now)
    if opens > now:
        return Hours(None, opens)
    for after in openings:
        # one that begins as another ends is the same one
        if after[0] > closes:
            return Hours(closes, after[0])
        closes = after[1]
        if closes - now > _NEVER:
            # it ends where it begins, which an older CRD may have let through
            return Hours(closes, closes + _SECOND)
    raise AssertionError("there is always another day")


def _openings(window: Window, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """When it opens and closes, from some time before now."""
    where = zone(window.time_zone)
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    today = now.astimezone(where).date()
    for number in count(-3):
        day = today + timedelta(days=number)
        if window.days is not None and DAYS[day.weekday()] not in window.days:
            continue
        until = day if start < end else day + timedelta(days=1)
        opens, closes = moment(day, start, where), moment(until, end, where)
        if opens < closes:
            yield opens, closes


def moment(day: date, clock: time, where: ZoneInfo) -> datetime:
    """When the clock on the wall first shows that time or, jumping over it, a later one."""
    shown = datetime.combine(day, clock)
    early, late = (shown.replace(tzinfo=where, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early.astimezone(where).replace(tzinfo=None) == shown:
        return early
    # within the jump, the time read by the offset after it lies before it, and the reverse
    before, after = late, early
    ahead = before.astimezone(where).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        if middle.astimezone(where).utcoffset() == ahead:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def told(opens: datetime, time_zone: str) -> str:
    """A moment as the window's own clock shows it: ``Mon 02:00 Asia/Shanghai``."""
    local = opens.astimezone(zone(time_zone))
    return f"{DAYS[local.weekday()]} {local:%H:%M} {time_zone}"
