"""Events of pulls: each told once, and what several servers do together in one."""

from collections import Counter
from typing import Any

import pytest

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.distribution import Around, DistributionPlan, plan_distribution
from ollama_fleet.plan.tasknotes import Told
from ollama_fleet.plan.taskreport import TASKS_SHOWN
from ollama_fleet.plan.tasks import Failure, Running, task_id
from tests.unit.plan.objects import DIGEST, NOW, Object, probe, resource, server
from tests.unit.plan.planning import LLAMA, WANT, seen

MANY = TASKS_SHOWN + 30
SPEC = {**WANT, "rollout": {"maxParallel": "100%"}}


def ids(count: int) -> list[str]:
    return [task_id("llm", "md", f"a-{number}", LLAMA) for number in range(count)]


def planned(
    count: int,
    before: DistributionPlan | None,
    *,
    known: bool = True,
    installed: bool = False,
    **changes: Any,
) -> DistributionPlan:
    """The plan after another; ``known``: by the operator that made that one."""
    wanted: Object = resource("ModelDistribution", "md", SPEC)
    if before is not None:
        wanted["status"] = before.plan.status
    has = probe(llama3_1__8b=DIGEST) if installed else probe()
    servers = [server(f"a-{number}", probe=has) for number in range(count)]
    around = Around(told=before.told if before is not None and known else None)
    return plan_distribution(wanted, servers, True, seen(**changes), NOW, around)


def notes(made: DistributionPlan) -> list[tuple[str, str]]:
    shown = (str(Reason.REGISTRY_UNREACHABLE), "PullStarted", "PullCompleted")
    return [(note.reason, note.message) for note in made.plan.notes if note.reason in shown]


def failing(count: int, attempts: int = 1) -> dict[str, Failure]:
    why = Failure(NOW, attempts, Reason.REGISTRY_UNREACHABLE, "no way")
    return dict.fromkeys(ids(count), why)


@pytest.mark.parametrize(
    ("count", "named"),
    [
        (1, "a-0"),
        (2, "a-0 and a-1"),
        (3, "a-0, a-1 and a-2"),
        (8, "a-0, a-1, a-2, a-3, a-4, a-5, a-6 and a-7"),
        (9, "a-0, a-1, a-2, a-3, a-4, a-5, a-6, a-7 and 1 more server"),
        (MANY, f"a-0, a-1, a-10, a-11, a-12, a-13, a-14, a-15 and {MANY - 8} more servers"),
    ],
)
def test_what_begins_and_ends_together_is_told_together(count: int, named: str) -> None:
    begun = planned(count, None)
    assert len(begun.start) == count
    assert notes(begun) == [("PullStarted", f"pulling {LLAMA} to {named} (listed)")]
    done = planned(count, begun, installed=True)
    told = notes(done)[0][1]
    names = told.removeprefix(f"{LLAMA} is installed on ").partition(", 5 GiB")[0]
    assert [reason for reason, _ in notes(done)] == ["PullCompleted"]
    assert told.endswith(f", {DIGEST}")
    assert names.count(",") == named.count(",")
    assert notes(planned(count, done, installed=True)) == []


def test_a_failure_is_told_once_of_however_many() -> None:
    made = planned(MANY, None, failures=failing(MANY))
    assert Counter(reason for reason, _ in notes(made)) == {"RegistryUnreachable": 1}
    for known in (True, False):
        again = planned(MANY, made, known=known, failures=failing(MANY))
        assert notes(again) == []
    worse = planned(MANY, made, failures=failing(MANY, attempts=2))
    assert [reason for reason, _ in notes(worse)] == ["RegistryUnreachable"]


def test_another_operator_tells_what_status_shows() -> None:
    begun = planned(MANY, None, running=dict.fromkeys(ids(MANY), Running()))
    done = planned(MANY, begun, known=False, installed=True)
    ((reason, message),) = notes(done)
    assert reason == "PullCompleted"
    assert f"and {TASKS_SHOWN - 8} more servers" in message
    few = planned(3, planned(3, None), known=False, failures=failing(3))
    assert [reason for reason, _ in notes(few)] == ["RegistryUnreachable"]


def test_of_a_status_that_shows_some_the_rest_is_not_known() -> None:
    shown = {"id": "a", "state": "Waiting", "attempts": 2}
    assert Told.by_status({"tasks": [shown]}).of_all
    assert not Told.by_status({"tasks": [shown], "tasksOmitted": 1}).of_all
