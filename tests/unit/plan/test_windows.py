from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_fleet.api.modeldistribution import Window
from ollama_fleet.plan.windows import DAYS, Hours, UnknownTimeZone, hours, told

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")


def window(start: str, end: str, zone: str = "UTC", days: list[str] | None = None) -> Window:
    return Window.model_validate({"start": start, "end": end, "timeZone": zone, "days": days})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "now", "closes", "opens"),
    [
        (("02:00", "06:00"), "2026-03-02T01:59", None, "2026-03-02T02:00"),
        (("02:00", "06:00"), "2026-03-02T02:00", "2026-03-02T06:00", "2026-03-03T02:00"),
        (("02:00", "06:00"), "2026-03-02T05:59:59", "2026-03-02T06:00", "2026-03-03T02:00"),
        (("02:00", "06:00"), "2026-03-02T06:00", None, "2026-03-03T02:00"),
        # across midnight
        (("22:00", "06:00"), "2026-03-02T23:00", "2026-03-03T06:00", "2026-03-03T22:00"),
        (("22:00", "06:00"), "2026-03-02T05:00", "2026-03-02T06:00", "2026-03-02T22:00"),
        # somewhere else it is another day
        (
            ("02:00", "06:00", "Asia/Shanghai"),
            "2026-03-01T19:00",
            "2026-03-01T22:00",
            "2026-03-02T18:00",
        ),
        # the days are those it opens on: 2026-03-01 is a Sunday
        (
            ("22:00", "06:00", "UTC", ["Sat"]),
            "2026-03-01T05:00",
            "2026-03-01T06:00",
            "2026-03-07T22:00",
        ),
        (("22:00", "06:00", "UTC", ["Sun"]), "2026-03-01T05:00", None, "2026-03-01T22:00"),
        (("22:00", "06:00", "UTC", ["Mon", "Wed"]), "2026-03-03T06:00", None, "2026-03-04T22:00"),
        # the clock is put forward over the start, then over the end, then over both
        (("02:30", "06:00", "Europe/Berlin"), "2026-03-29T00:59", None, "2026-03-29T01:00"),
        (
            ("01:00", "02:30", "Europe/Berlin"),
            "2026-03-29T00:30",
            "2026-03-29T01:00",
            "2026-03-29T23:00",
        ),
        (("02:10", "02:50", "Europe/Berlin"), "2026-03-29T00:30", None, "2026-03-30T00:10"),
        # a start and an end that come twice: the first of them
        (("02:30", "06:00", "Europe/Berlin"), "2026-10-25T00:00", None, "2026-10-25T00:30"),
        (
            ("01:00", "02:30", "Europe/Berlin"),
            "2026-10-25T00:00",
            "2026-10-25T00:30",
            "2026-10-26T00:00",
        ),
        (("02:10", "02:50", "Europe/Berlin"), "2026-10-25T01:20", None, "2026-10-26T01:10"),
        # half an hour
        (("02:15", "06:00", "Australia/Lord_Howe"), "2026-10-03T15:00", None, "2026-10-03T15:30"),
        (
            ("01:00", "01:45", "Australia/Lord_Howe"),
            "2026-04-04T14:30",
            "2026-04-04T14:45",
            "2026-04-05T14:30",
        ),
        # an end and the next start that the same jump is put over: it stays open
        (
            ("02:30", "02:29", "Europe/Berlin"),
            "2026-03-28T12:00",
            "2026-03-30T00:29",
            "2026-03-30T00:30",
        ),
        # a day that was left out altogether
        (("02:00", "06:00", "Pacific/Apia"), "2011-12-30T09:59", None, "2011-12-30T12:00"),
    ],
)
def test_how_a_window_stands(
    given: tuple[str, ...], now: str, closes: str | None, opens: str
) -> None:
    found = hours(window(*given), utc(now))  # type: ignore[arg-type]
    assert found == Hours(utc(closes) if closes else None, utc(opens))
    assert found.open is (closes is not None)
    assert found.edge == utc(closes or opens)


def changes(zone: str, years: range) -> list[datetime]:
    """The moments in those years at which the clock is put forward or back."""
    where, found = ZoneInfo(zone), []
    day = datetime(years[0], 1, 1, tzinfo=UTC)
    while day.year in years:
        hours_of = [day + index * timedelta(minutes=30) for index in range(49)]
        if day.astimezone(where).utcoffset() != hours_of[-1].astimezone(where).utcoffset():
            found += [
                after
                for before, after in pairwise(hours_of)
                if before.astimezone(where).utcoffset() != after.astimezone(where).utcoffset()
            ]
        day = hours_of[-1]
    return found


CHANGES = [(zone, at) for zone in ZONES for at in changes(zone, range(2025, 2029))]
CLOCKS = ("01:30", "02:00", "02:15", "02:30", "03:00")


def test_each_of_these_years_has_two_changes_in_each_zone() -> None:
    assert len(CHANGES) == len(ZONES) * 4 * 2


@pytest.mark.parametrize(("zone", "at"), CHANGES, ids=str)
def test_around_a_change_of_the_clock(zone: str, at: datetime) -> None:
    """Edge by edge: what it says then is what it said it would be."""
    where = ZoneInfo(zone)
    for start in CLOCKS:
        for end in CLOCKS:
            if start == end:
                continue
            night, now = window(start, end, zone), at - timedelta(hours=26)
            until = at + timedelta(hours=26)
            told_by = hours(night, now)
            opened = []
            while now < until:
                edge = told_by.edge
                assert edge > now
                assert edge <= told_by.opens
                after = hours(night, edge)
                assert after.open is not told_by.open
                if after.open:
                    opened.append(edge.astimezone(where).date())
                    assert edge == told_by.opens
                assert hours(night, edge - timedelta(seconds=1)).edge == edge
                told_by, now = after, edge
            # once a day at most
            assert len(opened) == len(set(opened))


@given(
    st.times(),
    st.times(),
    st.sampled_from((*ZONES, "UTC", "Asia/Shanghai", "America/St_Johns", "Africa/Casablanca")),
    st.lists(st.sampled_from(DAYS), min_size=1, unique=True) | st.none(),
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
)
@settings(max_examples=150, deadline=None)
def test_open_and_shut_take_turns(
    start: time, end: time, zone: str, days: list[str] | None, now: datetime
) -> None:
    first, last = start.strftime("%H:%M"), end.strftime("%H:%M")
    if first == last:
        return
    night = window(first, last, zone, days)
    found = hours(night, now)
    for _ in range(6):
        assert found.opens > now
        assert found.closes is None or now < found.closes < found.opens
        now, before = found.edge, found
        found = hours(night, now)
        assert found.open is not before.open


@pytest.mark.parametrize("name", ["Asia/Bejing", "Mars/Olympus", "posix", "Europe", "A/../B"])
def test_a_time_zone_that_is_none_is_told(name: str) -> None:
    with pytest.raises(UnknownTimeZone, match=f"no time zone is called {name}: write"):
        hours(window("02:00", "06:00").model_copy(update={"time_zone": name}), utc("2026-03-01"))


def test_a_moment_is_told_by_the_clock_of_the_window() -> None:
    assert told(utc("2026-03-01T18:00"), "Asia/Shanghai") == "Mon 02:00 Asia/Shanghai"


def test_one_that_ends_where_it_begins_is_open_all_day() -> None:
    """No CRD of ours lets that through; an older one may have."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert hours(Window(start="02:00", end="02:00"), now).open
