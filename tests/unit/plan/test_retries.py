import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import Retry
from ollama_fleet.plan.retries import JITTER, backoff, cause, next_try, remedy, spread
from tests.unit.plan.objects import NOW


def test_backoff_doubles_and_is_capped() -> None:
    waits = [backoff(20.0, failures, 0).total_seconds() for failures in (0, 1, 2, 3, 30, 10**6)]
    assert waits == [20, 20, 40, 80, 1800, 1800]


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_jitter_adds_a_part_at_most(failures: int, jitter: float) -> None:
    plain, wait = backoff(20.0, failures, 0), backoff(20.0, failures, jitter)
    assert plain <= wait <= plain * (1 + JITTER)


def test_chance_is_the_same_each_time_it_is_asked() -> None:
    drawn = [spread(f"task-{number}", 1) for number in range(1000)]
    assert drawn == [spread(f"task-{number}", 1) for number in range(1000)]
    assert min(drawn) >= 0
    assert max(drawn) < 1
    assert 0.45 < sum(drawn) / 1000 < 0.55
    assert len({spread("task", failures) for failures in range(100)}) == 100


def test_tasks_that_fail_together_are_not_tried_again_together() -> None:
    retry = Retry(attempts=3, backoff="20s")
    times = {next_try(retry, f"task-{number}", NOW, 1) for number in range(50)}
    assert len(times) == 50
    assert all(20 <= (time - NOW).total_seconds() <= 25 for time in times)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("write /models/blobs/sha256-1-partial: no space left on device", Reason.DISK_FULL),
        ("disk quota exceeded", Reason.DISK_FULL),
        ("digest mismatch, file must be downloaded again: want …, got …", Reason.DIGEST_MISMATCH),
        ("pull model manifest: 429: Too Many Requests", Reason.RATE_LIMITED),
        ("max retries exceeded: 429", Reason.RATE_LIMITED),
        ("pull model manifest: 401: {}", Reason.REGISTRY_UNAUTHORIZED),
        ("unauthorized: access denied", Reason.REGISTRY_UNAUTHORIZED),
        ("max retries exceeded: EOF", Reason.PULL_FAILED),
        ("sha256:4014294011 is short", Reason.PULL_FAILED),
    ],
)
def test_the_cause_of_a_failure(message: str, reason: Reason) -> None:
    assert cause(message) == reason
    assert remedy(reason)
