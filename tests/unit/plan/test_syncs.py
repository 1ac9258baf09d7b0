from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.plan.distribution import plan_distribution
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.syncs import due
from ollama_fleet.plan.tasks import RegistryFact, Running, Seen, task_id
from tests.unit.plan.objects import DIGEST, GIB, NOW, OTHER, Object, probe, resource, server

LLAMA = "llama3.1:8b"
TASK = task_id("llm", "md", "a-0", LLAMA)
DAILY = {"models": [{"name": LLAMA}], "rollout": {"schedule": "0 3 * * *"}}
ALWAYS = {"models": [{"name": LLAMA}], "pullPolicy": "Always"}
NEW = {LLAMA: RegistryFact(OTHER, GIB)}
OLD = server(probe=probe(llama3_1__8b=DIGEST))
UPDATED = server(probe=probe(llama3_1__8b=OTHER))


def plan(
    spec: Object,
    there: Server = OLD,
    compare: bool = False,
    status: Object | None = None,
    now: datetime = NOW,
    registry: dict[str, RegistryFact] = NEW,
    **seen: Any,
) -> Any:
    wanted = resource("ModelDistribution", "md", spec, status=status or {})
    looked = Seen(registry=registry, running={}, failures={}, compare=compare)
    return plan_distribution(wanted, [there], True, replace(looked, **seen), now)


def states(made: Any) -> list[str]:
    return [f"{task['state']} {task['reason']}" for task in made.plan.status["tasks"]]


@pytest.mark.parametrize("spec", [DAILY, ALWAYS, {"models": DAILY["models"]}])
def test_what_the_registry_gets_is_left_alone_until_compared(spec: Object) -> None:
    made = plan(spec)
    assert states(made) == ["Installed Installed"]
    assert not made.compared


def test_without_a_schedule_nothing_is_ever_compared() -> None:
    made = plan({"models": DAILY["models"]}, compare=True)
    assert states(made) == ["Installed Installed"]
    assert not {"lastSync", "nextSync", "outdated"} & {
        key for key, value in made.plan.status.items() if value
    }


@pytest.mark.parametrize("spec", [DAILY, ALWAYS])
def test_what_differs_then_is_pulled_again_once(spec: Object) -> None:
    made = plan(spec, compare=True)
    assert made.compared
    assert [order.digest for order in made.start] == [OTHER]
    status = made.plan.status
    assert status["outdated"] == [{"model": LLAMA, "digest": DIGEST}]
    assert status["lastSync"] == "2026-03-01T12:00:00Z"
    assert status["summary"]["drifted"] == 1
    # an operator that knows nothing but the status goes on with it
    assert states(plan(spec, status=status)) == ["Pulling Pulling"]
    pulling = plan(spec, status=status, running={TASK: Running()})
    assert states(pulling) == ["Pulling Pulling"]
    assert pulling.plan.status["tasks"][0]["digest"] == DIGEST
    done = plan(spec, UPDATED, status=pulling.plan.status)
    assert states(done) == ["Installed Installed"]
    assert done.plan.status["summary"]["drifted"] == 0
    # what the registry gets next has to wait for the next time
    newer = {LLAMA: RegistryFact("sha256:" + "c" * 64, GIB)}
    again = plan(spec, UPDATED, status=done.plan.status, registry=newer)
    assert states(again) == ["Installed Installed"]


def test_what_differs_waits_for_the_window() -> None:
    window = {"start": "03:00", "end": "05:00"}
    spec = {**DAILY, "rollout": {"schedule": "0 12 * * *", "window": window}}
    made = plan(spec, compare=True)
    assert states(made) == ["Paused OutsideWindow"]
    assert made.start == ()
    later = plan(spec, status=made.plan.status, now=NOW + timedelta(hours=15))
    assert [order.model for order in later.start] == [LLAMA]


def test_under_never_it_is_reported() -> None:
    made = plan({**DAILY, "pullPolicy": "Never"}, compare=True)
    assert states(made) == ["Failed DigestMismatch"]
    assert made.start == ()
    (task,) = made.plan.status["tasks"]
    assert task["message"] == (
        f"{LLAMA} is {DIGEST} there, wanted is {OTHER}, and pullPolicy is Never."
    )


def test_a_pin_is_not_compared() -> None:
    spec = {**DAILY, "models": [{"name": LLAMA, "digest": DIGEST}]}
    made = plan(spec, compare=True)
    assert made.plan.status.get("outdated", []) == []
    assert states(made) == ["Installed Installed"]


def test_a_registry_that_cannot_be_asked_is_asked_again() -> None:
    status = {"lastSync": "2026-03-01T03:00:00Z"}
    silent = {LLAMA: RegistryFact(error="no route")}
    made = plan(DAILY, compare=True, status=status, registry=silent)
    assert not made.compared
    assert made.plan.status["lastSync"] == "2026-03-01T03:00:00Z"
    assert states(made) == ["Installed Installed"]


def test_a_model_that_the_registry_has_no_more_stays() -> None:
    made = plan(DAILY, compare=True, registry={LLAMA: RegistryFact(missing=True)})
    assert states(made) == ["Installed Installed"]
    assert made.compared


def test_the_schedule_counts_from_when_it_is_first_seen() -> None:
    made = plan(DAILY)
    assert made.plan.status["lastSync"] == "2026-03-01T12:00:00Z"
    assert made.plan.status["nextSync"] == "2026-03-02T03:00:00Z"
    assert made.plan.requeue_after == 15 * 3600
    assert plan(DAILY, status=made.plan.status).plan.status == made.plan.status


@pytest.mark.parametrize(
    ("last", "now", "time"),
    [
        (None, "2026-03-02T12:00:00+00:00", None),
        ("2026-03-01T12:00:00Z", "2026-03-02T02:59:59+00:00", None),
        ("2026-03-01T12:00:00Z", "2026-03-02T03:00:00+00:00", "2026-03-02T03:00:00+00:00"),
        ("2026-03-02T03:00:00Z", "2026-03-02T03:00:00+00:00", None),
        # away for days: once
        ("2026-03-01T12:00:00Z", "2026-03-05T12:00:00+00:00", "2026-03-02T03:00:00+00:00"),
        ("2026-03-05T12:00:00Z", "2026-03-05T12:00:00+00:00", None),
        # the clock was set back since
        ("2026-03-05T12:00:00Z", "2026-03-05T11:00:00+00:00", "2026-03-05T11:00:00+00:00"),
    ],
)
def test_when_a_comparison_is_due(last: str | None, now: str, time: str | None) -> None:
    spec = ModelDistributionSpec.model_validate(DAILY)
    found = due(spec, {"lastSync": last}, datetime.fromisoformat(now))
    assert found == (datetime.fromisoformat(time) if time else None)


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        ({"schedule": "61 * * * *"}, "spec.rollout.schedule: '61 * * * *' is no schedule"),
        (
            {"window": {"start": "02:00", "end": "06:00", "timeZone": "Asia/Bejing"}},
            "spec.rollout.window.timeZone: no time zone is called Asia/Bejing: write an IANA name",
        ),
    ],
)
def test_what_the_definition_lets_through_and_is_none_stalls(rollout: Object, words: str) -> None:
    made = plan({**DAILY, "rollout": rollout}, server(), running={TASK: Running()})
    stalled = made.plan.status["conditions"][2]
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    assert words in stalled["message"]
    assert (made.start, made.keep) == ((), frozenset())
