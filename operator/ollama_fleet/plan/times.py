"""Times as the resources write them."""

from datetime import UTC, datetime, timedelta

_APART = timedelta(seconds=30)
"""By how much clocks of one cluster may differ, without anybody having set one."""


def rfc3339(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parsed(text: str | None) -> datetime | None:
    """The moment an RFC 3339 text names; None for nothing or nonsense."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def elapsed(since: datetime, now: datetime) -> timedelta:
    """How long ago that was.

    What is yet to come was written by another clock. One that is a little ahead, as that of the
    machine of another operator, says just now. One that has been set back since says nothing: it
    counts as long past, so that nothing waits until the clock is there again.
    """
    if since <= now:
        return now - since
    return timedelta(0) if since - now <= _APART else timedelta.max


def span(seconds: float) -> str:
    """A time span in its two largest units: ``3h12m``, ``4m10s``, ``8s``."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
