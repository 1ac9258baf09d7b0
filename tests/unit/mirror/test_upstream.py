from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ollama_fleet.mirror.upstream import seconds_asked


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), (" 0 ", 0), (None, 10), ("soon", 10), ("-5", 10)]
)
def test_how_long_a_registry_wants_to_be_left_alone(header: str | None, seconds: float) -> None:
    assert seconds_asked(header) == seconds


def test_the_time_may_be_given_instead() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < seconds_asked(in_a_minute) <= 60
    assert seconds_asked("Thu, 01 Jan 1970 00:00:00 GMT") == 0
