"""Quotas: never more than the limit in any minute, and no longer to wait than is true."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.router.quota import Exceeded, Limits, Usage, Window

PAUSES = st.lists(st.floats(0, 90, allow_nan=False), max_size=60)


@given(PAUSES, st.integers(1, 5), st.floats(0, 1000))
def test_no_minute_has_more_requests_than_the_limit(
    pauses: list[float], limit: int, start: float
) -> None:
    usage, limits = Usage(), Limits(requests=limit)
    admitted = []
    for now in accumulate(pauses, initial=start):
        if usage.exceeded(limits, now) is None:
            usage.begin(now)
            admitted.append(now)
    for first in admitted:
        assert sum(first <= one <= first + 60 for one in admitted) <= limit


@given(PAUSES, st.integers(1, 5))
def test_who_waits_as_told_is_admitted(pauses: list[float], limit: int) -> None:
    usage, limits = Usage(), Limits(requests=limit)
    for now in accumulate(pauses, initial=0.0):
        exceeded = usage.exceeded(limits, now)
        if exceeded is None:
            usage.begin(now)
            continue
        assert 0 < exceeded.wait <= 61
        assert usage.requests.wait(limit, now) == exceeded.wait
    later = now + usage.requests.wait(limit, now)
    assert usage.requests.used(later) < limit


@given(PAUSES, st.lists(st.integers(1, 1000), min_size=61, max_size=61), st.integers(1, 2000))
def test_tokens_exceed_their_limit_by_one_answer_at_most(
    pauses: list[float], costs: list[int], limit: int
) -> None:
    usage, limits = Usage(), Limits(tokens=limit)
    charged: list[tuple[float, int]] = []
    for now, cost in zip(accumulate(pauses, initial=0.0), costs, strict=False):
        if usage.exceeded(limits, now) is None:
            usage.begin(now)
            usage.end(cost, now)
            charged.append((now, cost))
    for first, _ in charged:
        minute = [cost for now, cost in charged if first <= now <= first + 60]
        assert sum(minute[:-1]) < limit


def test_the_wait_is_for_the_oldest_use_that_makes_room() -> None:
    window = Window()
    window.add(5, 10.5)
    window.add(5, 20.0)
    assert window.wait(11, 30.0) == 0
    assert window.wait(10, 30.0) == 41  # from second 71 on, what was used in second 10 is gone
    assert window.wait(5, 30.0) == 51
    assert window.wait(1, 30.0) == window.empty_in(30.0) == 51
    assert [window.used(now) for now in (70.99, 71.0, 80.9)] == [10, 5, 5]
    assert (window.empty_in(80.5), window.empty_in(81.0), window.used(81.0)) == (0.5, 0, 0)


def test_requests_at_once() -> None:
    usage, limits = Usage(), Limits(concurrent=2)
    usage.begin(0.0)
    usage.begin(0.0)
    assert usage.exceeded(limits, 0.0) == Exceeded("concurrent", 2, 1.0)
    usage.end(0, 1.0)
    assert usage.exceeded(limits, 1.0) is None


@pytest.mark.parametrize(
    ("limits", "replicas", "shared"),
    [
        (Limits(60, 1000, 4), 1, Limits(60, 1000, 4)),
        (Limits(60, 1000, 4), 3, Limits(20, 333, 1)),
        (Limits(2, None, 1), 5, Limits(1, None, 1)),
    ],
)
def test_routers_share_what_a_client_may(limits: Limits, replicas: int, shared: Limits) -> None:
    assert limits.shared(replicas) == shared
