import re
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_fleet.plan.schedules import InvalidSchedule, next_time
from tests.unit.plan.objects import NOW


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "then"),
    [
        ("0 3 * * *", "UTC", "2026-03-01T12:00", "2026-03-02T03:00"),
        ("0 3 * * *", "UTC", "2026-03-02T03:00", "2026-03-03T03:00"),
        ("0 3 * * *", "Asia/Shanghai", "2026-03-01T12:00", "2026-03-01T19:00"),
        ("@hourly", "UTC", "2026-03-01T12:00", "2026-03-01T13:00"),
        ("@daily", "America/New_York", "2026-03-01T12:00", "2026-03-02T05:00"),
        ("@weekly", "UTC", "2026-03-02T12:00", "2026-03-08T00:00"),
        ("@monthly", "UTC", "2026-03-01T12:00", "2026-04-01T00:00"),
        ("30 2 * * MON-FRI", "UTC", "2026-03-06T12:00", "2026-03-09T02:30"),
        ("*/15 0-6 * JAN,FEB MON-FRI", "UTC", "2026-03-01T12:00", "2027-01-01T00:00"),
        ("0 3 * * 1#1", "UTC", "2026-03-03T12:00", "2026-04-06T03:00"),
        ("0 3 29 2 *", "UTC", "2026-03-01T12:00", "2028-02-29T03:00"),
        # the clock is put forward, and back
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T01:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00", "2026-10-25T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10", "2026-10-26T01:30"),
    ],
)
def test_when_it_comes_next(schedule: str, zone: str, after: str, then: str) -> None:
    assert next_time(schedule, zone, utc(after)) == utc(then)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("61 * * * *", "'61 * * * *' is no schedule (bad minute): write minute, hour, day"),
        ("0 3 * * MONDAY", "bad day-of-week"),
        ("0 3 5-1 * *", "bad day-of-month"),
        ("*/0 * * * *", "bad minute"),
        ("0 3 30 2 *", 'such as "0 3'),
        ("0 3 31 4,6 *", 'such as "0 3'),
    ],
)
def test_what_is_none_is_told(schedule: str, words: str) -> None:
    with pytest.raises(InvalidSchedule, match=re.escape(words)):
        next_time(schedule, "UTC", NOW)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_the_definition_lets_through_works_or_is_told(data: st.DataObject) -> None:
    fields = st.text("0123456789*/,-LWMONSATJFEB", min_size=1, max_size=5)
    schedule = data.draw(st.lists(fields, min_size=5, max_size=5).map(" ".join))
    with suppress(InvalidSchedule):
        assert next_time(schedule, "Europe/Berlin", NOW) > NOW
