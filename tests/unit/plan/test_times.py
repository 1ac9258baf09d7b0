from datetime import datetime, timedelta

import pytest

from ollama_fleet.plan.times import elapsed
from tests.unit.plan.objects import NOW


@pytest.mark.parametrize(
    ("since", "counts"),
    [
        (NOW - timedelta(minutes=2), timedelta(minutes=2)),
        (NOW, timedelta(0)),
        (NOW + timedelta(seconds=5), timedelta(0)),
        (NOW + timedelta(minutes=1), timedelta.max),
    ],
    ids=["past", "now", "another machine's clock", "the clock was set back"],
)
def test_what_is_yet_to_come_is_of_another_clock(since: datetime, counts: timedelta) -> None:
    assert elapsed(since, NOW) == counts
