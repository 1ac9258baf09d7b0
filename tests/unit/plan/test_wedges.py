"""Servers that do not answer with a model any more are replaced, less and less often."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.plan.drain import Report, Use, wedged_in
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.result import Plan
from ollama_fleet.plan.times import rfc3339
from ollama_fleet.plan.wedges import FORGIVEN, LONGEST, PAUSE, Restarts
from tests.unit.plan.objects import NOW, Object, machine, pod, probe, resource

M, OTHER = "m:latest", "other:latest"
URL = "http://10.0.0.{}:11434"
WORKLOAD: Object = {
    "metadata": {"generation": 1},
    "spec": {"template": {}},
    "status": {"observedGeneration": 1},
}


def fleet(*, wedged: tuple[int, ...], servers: int = 3, ending: int | None = None) -> Observed:
    """Servers a-0, a-1, …, of which some do not answer with the model m."""
    pods = [pod(f"a-{number}") for number in range(servers)]
    for number, one in enumerate(pods):
        one["status"]["podIP"] = f"10.0.0.{number}"
        if number == ending:
            one["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    return Observed(
        WORKLOAD,
        tuple(pods),
        {"gpu-a": machine("gpu-a")},
        {URL.format(number): probe(m__latest="d") for number in range(servers)},
        wedged={URL.format(number): (M,) for number in wedged},
    )


def node(before: dict[str, Object] | None = None, **spec: Any) -> Object:
    told = [{"name": name, **fields} for name, fields in (before or {}).items()]
    made = {"replicas": 3, "gpu": {"vendor": "none"}, "storage": {"ephemeral": True}, **spec}
    return resource("OllamaNode", "a", made, status={"servers": told})


def restarted(count: int, ago: timedelta) -> Object:
    return {"wedgedRestarts": count, "wedgedRestartedAt": rfc3339(NOW - ago)}


def goes(plan: Plan) -> list[str]:
    return [one["metadata"]["name"] for one in plan.delete if one.get("spec", {}).get("nodeName")]


def told(plan: Plan) -> dict[str, Object]:
    return {one["name"]: one for one in plan.status["servers"]}


def ready(plan: Plan) -> tuple[str, str, str]:
    (found,) = [one for one in plan.status["conditions"] if one["type"] == "Ready"]
    return found["status"], found["reason"], found["message"]


def test_a_wedged_server_is_replaced_and_says_why() -> None:
    plan = plan_ollamanode(node(), fleet(wedged=(1,)), NOW)
    assert goes(plan) == ["a-1"]
    status = told(plan)["a-1"]
    assert status["wedged"] == [M]
    assert (status["wedgedRestarts"], status["wedgedRestartedAt"]) == (1, rfc3339(NOW))
    assert status["state"] == "Ready"
    assert "its pod is replaced once its other requests are done" in status["message"]
    holds, reason, message = ready(plan)
    assert (holds, reason) == ("False", "Wedged")
    assert f"a-1: it does not answer with {M} any more" in message
    assert [(note.type, note.reason) for note in plan.notes] == [("Warning", "Wedged")]
    assert "wedged" not in told(plan)["a-0"] or not told(plan)["a-0"]["wedged"]


@pytest.mark.parametrize(
    ("wedged", "most", "expected"),
    [
        ((0, 1, 2), 1, ["a-2"]),
        ((0, 1, 2), 2, ["a-2", "a-1"]),
        ((0,), 1, ["a-0"]),
        ((), 1, []),
    ],
)
def test_no_more_at_once_than_an_update_may(
    wedged: tuple[int, ...], most: int, expected: list[str]
) -> None:
    plan = plan_ollamanode(node(update={"maxUnavailable": most}), fleet(wedged=wedged), NOW)
    assert goes(plan) == expected


def test_nobody_goes_while_another_is_away() -> None:
    plan = plan_ollamanode(node(), fleet(wedged=(0, 2), ending=2), NOW)
    assert goes(plan) == []
    # what is under way is not told as if it had been in vain
    assert "once its other requests are done" in told(plan)["a-2"]["message"]


@pytest.mark.parametrize(
    ("before", "expected", "again"),
    [
        (restarted(1, PAUSE), ["a-1"], 2),
        (restarted(1, PAUSE - timedelta(seconds=1)), [], 1),
        (restarted(2, PAUSE), [], 2),
        (restarted(2, 2 * PAUSE), ["a-1"], 3),
        (restarted(99, LONGEST - timedelta(seconds=1)), [], 99),
        (restarted(99, LONGEST), ["a-1"], 100),
        (restarted(99, FORGIVEN), ["a-1"], 1),
        # the clock was set back since
        (restarted(1, -FORGIVEN), ["a-1"], 1),
    ],
)
def test_one_that_is_wedged_again_waits_longer_each_time(
    before: Object, expected: list[str], again: int
) -> None:
    plan = plan_ollamanode(node({"a-1": before}), fleet(wedged=(1,)), NOW)
    assert goes(plan) == expected
    assert told(plan)["a-1"]["wedgedRestarts"] == again
    if not expected:
        due = Restarts.of(before, NOW).next
        assert due is not None
        assert plan.requeue_after == (due - NOW).total_seconds()
        message = told(plan)["a-1"]["message"]
        times = "once" if again == 1 else f"{again} times"
        assert f"its pod was replaced {times} for that, and is again at {rfc3339(due)}" in message
        assert not plan.notes


def test_what_was_mended_is_forgotten_in_time() -> None:
    plan = plan_ollamanode(node({"a-1": restarted(1, PAUSE)}), fleet(wedged=()), NOW)
    assert told(plan)["a-1"]["wedgedRestarts"] == 1
    assert ready(plan)[0] == "True"
    plan = plan_ollamanode(node({"a-1": restarted(1, FORGIVEN)}), fleet(wedged=()), NOW)
    assert "wedgedRestarts" not in told(plan)["a-1"]


def test_where_the_server_runs_elsewhere_its_owner_is_told() -> None:
    url = "http://gpu-box:11434"
    seen = Observed(None, (), {}, {url: probe(m__latest="d")}, wedged={url: (M, OTHER)})
    plan = plan_ollamanode(resource("OllamaNode", "box", {"external": {"url": url}}), seen, NOW)
    holds, reason, message = ready(plan)
    assert (holds, reason) == ("False", "Wedged")
    assert f"it does not answer with {M}, {OTHER} any more" in message
    assert "Restart Ollama there (systemctl restart ollama)" in message
    assert [note.reason for note in plan.notes] == ["Wedged"]
    assert told(plan)["box"]["state"] == "Ready"
    assert not plan.delete


def use(in_flight: int = 0, wedged: str = "", heard: str = "", **models: int) -> Report:
    counts = {name.replace("_", ":"): count for name, count in models.items()}
    return {"u": Use(False, in_flight, counts, frozenset(wedged.split()), frozenset(heard.split()))}


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([use(wedged=M)], (M,)),
        ([use(wedged=M), use()], (M,)),
        ([use(wedged=M), use(wedged=OTHER)], (M, OTHER)),
        ([use(wedged=M), use(heard=OTHER)], (M,)),
        # what one router waits for in vain is at work for another
        ([use(wedged=M), use(heard=M)], ()),
        ([use(heard=M), use(wedged=f"{M} {OTHER}")], (OTHER,)),
        ([], ()),
    ],
)
def test_a_server_is_wedged_where_no_router_says_the_contrary(
    reports: list[Report], expected: tuple[str, ...]
) -> None:
    assert wedged_in(reports).get("u", ()) == expected


@pytest.mark.parametrize(
    ("one", "left"),
    [
        (use(3, m_latest=3), 3),
        (use(3, wedged=M, m_latest=3), 0),
        (use(3, wedged=M, m_latest=2, other_latest=1), 1),
        (use(3, wedged=f"{M} {OTHER}", m_latest=2, other_latest=1), 0),
    ],
)
def test_requests_that_are_never_answered_are_not_waited_for(one: Report, left: int) -> None:
    assert one["u"].to_finish == left


def test_a_trouble_of_another_kind_comes_first() -> None:
    seen = fleet(wedged=(1,))
    crashed = replace(seen, pods=(*seen.pods[:2], pod("a-2", ready=False, phase="Failed")))
    assert ready(plan_ollamanode(node(), crashed, NOW))[1] == "PodRefused"
