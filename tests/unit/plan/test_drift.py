"""Pins: one digest and no other, and the older of two that contradict each other holds."""

from typing import Any

import pytest

from ollama_fleet.plan.demands import pins_on
from ollama_fleet.plan.distribution import Around, plan_distribution
from ollama_fleet.plan.drift import pins_told
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.tasks import RegistryFact, Running, Seen, task_id
from tests.unit.plan.objects import (
    DIGEST,
    GIB,
    NOW,
    OTHER,
    Object,
    demands,
    probe,
    resource,
    server,
)

LLAMA = "llama3.1:8b"
PINNED = {"models": [{"name": LLAMA, "digest": DIGEST}]}
REPINNED = {"models": [{"name": LLAMA, "digest": OTHER}]}
LISTED = {"models": [{"name": LLAMA}]}


def made(name: str, spec: Object, created: str = "") -> Object:
    one = resource("ModelDistribution", name, spec)
    one["metadata"]["creationTimestamp"] = created
    return one


def plan(one: Object, *others: Object, servers: tuple[Server, ...], **changes: Any) -> Any:
    seen = Seen(**{"registry": {LLAMA: RegistryFact(DIGEST, GIB)}, "running": {}, **changes})
    return plan_distribution(one, servers, True, seen, NOW, Around(demands([one, *others])))


def seen(**changes: Any) -> dict[str, Any]:
    return {"failures": {}, **changes}


@pytest.mark.parametrize(
    ("first", "second", "held", "stalled"),
    [
        (("b", PINNED, "1"), ("a", REPINNED, "2"), DIGEST, "a"),
        (("a", PINNED, "1"), ("b", REPINNED, "1"), DIGEST, "b"),
        (("b", PINNED, "1"), ("a", REPINNED, "1"), OTHER, "b"),
        # what only plans holds nothing
        (("a", {**PINNED, "dryRun": True}, "1"), ("b", REPINNED, "2"), OTHER, "a"),
        # another spelling of the same model
        (
            ("a", {"models": [{"name": "LLAMA3.1:8b", "digest": DIGEST}]}, "1"),
            ("b", REPINNED, "2"),
            DIGEST,
            "b",
        ),
    ],
)
def test_of_two_pins_the_older_holds(first: Any, second: Any, held: str, stalled: str) -> None:
    both = [made(*first), made(*second)]
    (pin,) = pins_on(demands(both), server()).values()
    assert pin.digest == held
    for one in both:
        name = one["metadata"]["name"]
        done = plan(one, *both, servers=(server(),), **seen())
        ready = done.plan.status["conditions"][0]
        if name == stalled:
            assert (ready["reason"], done.start) == ("ContradictoryPin", ())
            other = next(each["metadata"]["name"] for each in both if each is not one)
            assert f"ModelDistribution {other}," in ready["message"]
        elif not one["spec"].get("dryRun") and held == DIGEST:
            assert [order.digest for order in done.start] == [held]


def test_a_pull_for_a_pin_that_does_not_hold_is_stopped() -> None:
    older, later = made("a", PINNED, "1"), made("b", REPINNED, "2")
    task = task_id("llm", "b", "a-0", LLAMA)
    done = plan(later, older, servers=(server(),), **seen(running={task: Running()}))
    assert done.keep == frozenset()


def test_whoever_wants_a_pinned_model_wants_it_as_it_is_pinned() -> None:
    older, later = made("a", PINNED, "1"), made("b", LISTED, "2")
    drifted = server(probe=probe(llama3_1__8b=OTHER))
    done = plan(later, older, servers=(drifted,), **seen())
    assert [order.digest for order in done.start] == [DIGEST]


def test_drift_is_counted_told_once_and_while_it_is_pulled_again() -> None:
    one = made("a", PINNED)
    drifted = server(probe=probe(llama3_1__8b=OTHER))
    first = plan(one, servers=(drifted,), **seen())
    assert first.plan.status["summary"]["drifted"] == 1
    assert "1 with another digest" in first.plan.status["conditions"][0]["message"]
    assert [note.reason for note in first.plan.notes if note.reason == "Drifted"] == ["Drifted"]
    (order,) = first.start
    again = plan(
        {**one, "status": first.plan.status},
        servers=(drifted,),
        **seen(running={order.task: Running()}),
    )
    assert again.plan.status["summary"]["drifted"] == 1
    for status in (first.plan.status, again.plan.status):
        (task,) = status["tasks"]
        assert (task["drifted"], task["digest"], task["wantedDigest"]) == (True, OTHER, DIGEST)
    assert [note for note in again.plan.notes if note.reason == "Drifted"] == []
    done = plan(
        {**one, "status": again.plan.status},
        servers=(server(probe=probe(llama3_1__8b=DIGEST)),),
        **seen(),
    )
    assert done.plan.status["summary"]["drifted"] == 0
    assert done.plan.status["conditions"][0]["status"] == "True"


def test_pins_of_tiers_are_told_for_the_servers_of_that_tier() -> None:
    tiers = [
        {"minMemory": "16G", "models": PINNED["models"]},
        {"minMemory": 0, "models": REPINNED["models"]},
    ]
    fixed = {"models": [{"name": "tiny", "digest": DIGEST}]}
    wanted = demands([made("a", {"tiers": tiers}), made("b", fixed)])
    told = pins_told(wanted, [server("a-0", 24), server("a-1", 24), server("a-2", 8)])
    assert [one.wire() for one in told] == [
        {"model": LLAMA, "digest": DIGEST, "servers": ["a-0", "a-1"]},
        {"model": LLAMA, "digest": OTHER, "servers": ["a-2"]},
        {"model": "tiny:latest", "digest": DIGEST},
    ]


def test_a_pin_on_more_servers_than_one_entry_may_name_has_several() -> None:
    tiers = [{"minMemory": "16G", "models": PINNED["models"]}]
    many = [server(f"a-{index:04d}", 24) for index in range(1001)]
    told = pins_told(demands([made("a", {"tiers": tiers})]), [*many, server("b-0", 8)])
    assert [len(one.servers or ()) for one in told] == [1000, 1]


def test_pins_are_for_the_servers_that_are_meant() -> None:
    wanted = demands([made("a", {**PINNED, "target": {"servers": ["a-1"]}})])
    told = pins_told(wanted, [server("a-0"), server("a-1")])
    assert [one.servers for one in told] == [["a-1"]]
    assert pins_told(wanted, [server("a-0")]) == []
