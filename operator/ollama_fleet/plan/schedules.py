"""Times that come again, as cron writes them."""

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from ollama_fleet.plan.windows import zone

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
}


class InvalidSchedule(ValueError):  # noqa: N818
    """No schedule, or one whose day never comes; the text says what to write."""


def next_time(schedule: str, time_zone: str, after: datetime) -> datetime:
    """The first time of a schedule later than ``after``, in UTC.

    As with Debian's cron, a time that the clock jumps over is the moment after the jump, and one
    that comes twice counts once, unless it is of every hour or minute. Raises InvalidSchedule, and
    UnknownTimeZone.
    """
    where = UTC if time_zone == "UTC" else zone(time_zone)
    try:
        times = CronSim(_NAMED.get(schedule, schedule), after.astimezone(where))
        # asked in an hour that comes twice, it begins with the first of the two
        return next(one.astimezone(UTC) for one in times if one > after)
    except CronSimError as error:
        raise InvalidSchedule(
            f"{schedule!r} is no schedule ({_lower(str(error))}): write minute, hour, day, month "
            'and weekday, such as "0 3 * * *" or "30 2 * * MON-FRI"'
        ) from error
    except StopIteration:
        raise InvalidSchedule(
            f'{schedule!r} names a day that never comes: write one that does, such as "0 3 1 * *"'
        ) from None


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
