"""When what is installed is to be compared with the registry."""

from datetime import timedelta
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.controllers.comparisons import Call, Comparisons, fresh_from
from ollama_fleet.plan.tasks import Failure
from tests.unit.plan.objects import NOW, Object, resource, server

LATER = NOW + timedelta(minutes=1)
MODELS = {"models": [{"name": "llama3.1:8b"}]}
ALWAYS = {**MODELS, "pullPolicy": "Always"}
DAILY = {**MODELS, "rollout": {"schedule": "0 3 * * *"}}


def call(
    comparisons: Comparisons, spec: Object, *servers: Any, now: Any = NOW, **more: Any
) -> Call | None:
    wanted = resource("ModelDistribution", "md", spec, **more)
    read = ModelDistributionSpec.model_validate(spec)
    return comparisons.call("llm/md", wanted, read, servers or (server(),), now)


def test_if_not_present_never_calls() -> None:
    assert call(Comparisons(), MODELS) is None


def test_always_calls_once_and_until_it_is_done() -> None:
    known = Comparisons()
    assert call(known, ALWAYS) == Call(NOW)
    assert call(known, ALWAYS, now=LATER) == Call(NOW)
    known.done("llm/md")
    assert call(known, ALWAYS, now=LATER) is None


def test_always_calls_for_a_new_server_that_tells_what_it_has() -> None:
    known = Comparisons()
    call(known, ALWAYS)
    known.done("llm/md")
    starting = server("a-1", state="Starting", url=None)
    assert call(known, ALWAYS, server(), starting) is None
    assert call(known, ALWAYS, server(), server("a-1"), now=LATER) == Call(LATER)
    known.done("llm/md")
    # away and back is not new
    assert call(known, ALWAYS, server("a-1")) is None
    assert call(known, ALWAYS, server(), server("a-1")) is None


def test_always_calls_for_a_new_spec() -> None:
    known = Comparisons()
    call(known, ALWAYS)
    known.done("llm/md")
    meta = {"name": "md", "namespace": "llm", "generation": 2}
    assert call(known, ALWAYS, metadata=meta, now=LATER) == Call(LATER)


def test_a_time_of_the_schedule_calls() -> None:
    known = Comparisons()
    assert call(known, DAILY, status={"lastSync": "2026-03-01T04:00:00Z"}) is None
    found = call(known, DAILY, status={"lastSync": "2026-02-28T04:00:00Z"})
    assert found == Call(NOW.replace(hour=3), scheduled=True)


def test_a_digest_that_was_not_what_came_is_asked_for_again() -> None:
    wrong = Failure(LATER, 1, Reason.DIGEST_MISMATCH, "another.")
    other = Failure(LATER, 1, Reason.PULL_FAILED, "reset.")
    assert fresh_from(None, [other], None, LATER) is None
    assert fresh_from(Call(NOW), [other], None, LATER) == NOW
    assert fresh_from(Call(NOW), [other, wrong], None, LATER) == LATER


def test_the_registry_is_asked_again_when_people_have_it_tried_again() -> None:
    assert fresh_from(None, [], NOW, LATER) == NOW
    assert fresh_from(Call(LATER), [], NOW, LATER) == LATER
    assert fresh_from(None, [], LATER, NOW) is None
