"""What was given up begins anew when people ask for it."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.anew import RETRY_AT, asked, begins, change, counting
from ollama_fleet.plan.distribution import plan_distribution
from ollama_fleet.plan.taskreport import failures_from_status
from ollama_fleet.plan.tasks import Failure, RegistryFact, Seen, task_id
from ollama_fleet.plan.times import rfc3339
from tests.unit.plan.objects import DIGEST, GIB, NOW, OTHER, Object, probe, resource, server

LLAMA = "llama3.1:8b"
TASK = task_id("llm", "md", "a-0", LLAMA)
GIVEN_UP = Failure(NOW - timedelta(hours=1), 3, Reason.PULL_FAILED, "reset.")


def wanted(retry_at: datetime | str | None = None, status: Object | None = None) -> Object:
    made = resource("ModelDistribution", "md", {"models": [{"name": LLAMA}]})
    if retry_at is not None:
        text = retry_at if isinstance(retry_at, str) else rfc3339(retry_at)
        made["metadata"]["annotations"] = {RETRY_AT: text}
    made["status"] = status or {}
    return made


def plan(distribution: Object, failure: Failure, now: datetime = NOW, **probed: str) -> Any:
    registry = {LLAMA: RegistryFact(DIGEST, 5 * GIB)}
    seen = Seen(registry=registry, running={}, failures={TASK: failure})
    return plan_distribution(distribution, [server(probe=probe(**probed))], True, seen, now)


def task_of(made: Any) -> dict[str, Any]:
    (task,) = made.plan.status["tasks"]
    return dict(task)


@pytest.mark.parametrize(
    ("failed", "moment", "again"),
    [
        pytest.param(-60, None, False, id="nobody asks"),
        pytest.param(-60, "soon", False, id="nobody understands"),
        pytest.param(-60, NOW, True, id="now"),
        pytest.param(-60, NOW - timedelta(seconds=59), True, id="after it failed"),
        pytest.param(-60, NOW - timedelta(seconds=60), False, id="as it failed"),
        pytest.param(-60, NOW - timedelta(days=1), False, id="long before"),
        pytest.param(-60, NOW + timedelta(seconds=5), False, id="not yet"),
        pytest.param(-59.1, NOW - timedelta(seconds=59), True, id="a moment later"),
    ],
)
def test_what_failed_before_the_moment_is_pulled_again(
    failed: float, moment: datetime | str | None, again: bool
) -> None:
    failure = replace(GIVEN_UP, at=NOW + timedelta(seconds=failed))
    made = plan(wanted(moment), failure)
    task = task_of(made)
    assert [order.attempts for order in made.start] == ([0] if again else [])
    assert (task["state"], task["attempts"]) == (("Pulling", 0) if again else ("Failed", 3))
    assert task["error"] == "reset."


def test_a_moment_to_come_is_waited_for() -> None:
    made = plan(wanted(NOW + timedelta(seconds=5)), GIVEN_UP)
    assert made.plan.requeue_after == 5.0
    assert plan(wanted(NOW), GIVEN_UP).plan.requeue_after is None


def test_it_begins_anew_once() -> None:
    """Failures after the moment count, and go on counting when the operator starts again."""
    asking = wanted(NOW)
    for attempts in (1, 2, 3):
        at = NOW + timedelta(seconds=attempts - 0.5)
        failure = Failure(at, attempts, Reason.PULL_FAILED, "reset.")
        status = plan(asking, failure, at).plan.status
        assert failures_from_status(status, 1)[TASK].attempts == attempts
        assert counting(failures_from_status(status, 1), asked(asking), at) == {
            TASK: replace(failure, at=at.replace(microsecond=0))
        }
    assert status["tasks"][0]["state"] == "Failed"


def test_another_digest_than_wanted_is_not_taken_for_the_right_one() -> None:
    failure = replace(GIVEN_UP, reason=Reason.DIGEST_MISMATCH)
    made = plan(wanted(NOW), failure, llama3_1__8b=OTHER)
    assert [order.digest for order in made.start] == [DIGEST]
    recalled = failures_from_status(made.plan.status, 1)[TASK]
    assert [order.attempts for order in plan(wanted(), recalled, llama3_1__8b=OTHER).start] == [0]


def test_it_shows_before_the_operator_has_seen_it() -> None:
    status = plan(wanted(), GIVEN_UP).plan.status
    (task,) = status["tasks"]
    assert not begins(wanted(status=status), task)
    again = wanted(status=status)
    again["metadata"] |= change(again, NOW)["metadata"]
    assert begins(again, task)
    assert not begins(wanted(NOW), task | {"state": "Misfit"})
    assert not begins(wanted(NOW), {"state": "Failed", "reason": "ModelNotFound"})


@pytest.mark.parametrize(
    ("tasks", "moment"),
    [
        ([("Failed", "2026-01-01T10:00:00Z")], "2026-01-01T10:00:01Z"),
        (
            [
                ("Failed", "2026-01-01T10:00:00Z"),
                ("Failed", "2026-01-01T11:59:59Z"),
                ("Waiting", "2026-01-01T13:00:00Z"),
            ],
            "2026-01-01T12:00:00Z",
        ),
        ([("Failed", None), ("Failed", "2026-01-01T10:00:00Z")], rfc3339(NOW)),
        ([], rfc3339(NOW)),
    ],
)
def test_the_moment_asked_for(tasks: list[tuple[str, str | None]], moment: str) -> None:
    told = [{"state": state, "failedAt": at} for state, at in tasks]
    asking = change(wanted(status={"tasks": told}), NOW)
    assert asking == {"metadata": {"annotations": {RETRY_AT: moment}}}
