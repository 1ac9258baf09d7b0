"""A server on its way out stops as soon as that cuts nobody off, and not before."""

from typing import Any

import pytest

from ollama_fleet.plan.drain import Report, Use, drained, draining_mark, ending
from ollama_fleet.plan.servers import Probe
from tests.unit.plan.objects import NOW, Object, pod

URL = "http://10.0.0.1:11434"
RUNS: list[Object] = [{"state": {"running": {}}}]
BUSY = Probe(version="1", resident={"m:latest": 1}, last_seen=NOW)
IDLE = Probe(version="1", last_seen=NOW)


def leaving(grace: int | None = 330, containers: Any = RUNS, **meta: Any) -> Object:
    made = pod("a-0", containerStatuses=containers)
    made["metadata"] |= {"deletionTimestamp": "2026-03-01T12:00:00Z"} | meta
    if grace is not None:
        made["metadata"]["deletionGracePeriodSeconds"] = grace
    return made


def says(taking: bool = False, in_flight: int = 0, url: str = URL) -> Report:
    return {url: Use(taking, in_flight)}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (leaving(), True),
        (leaving(None), True),
        (pod("a-0", containerStatuses=RUNS), False),
        # hastened already
        (leaving(1), False),
        # nothing runs that could be cut off: the kubelet does not wait for it
        (leaving(containers=[{"state": {"waiting": {}}}]), False),
        (leaving(containers=[]), False),
    ],
)
def test_who_is_ending(one: Object, expected: bool) -> None:
    assert ending(one) is expected


@pytest.mark.parametrize(
    ("probe", "routers", "last", "expected"),
    [
        (BUSY, [says()], False, True),
        (BUSY, [says(), {}], False, True),
        # somebody has not noticed yet, is not done yet, or does not answer
        (BUSY, [says(taking=True)], False, False),
        (BUSY, [says(in_flight=1)], False, False),
        (BUSY, [says(), says(in_flight=1)], False, False),
        (IDLE, [None], False, False),
        (IDLE, [says(), None], True, False),
        # without a router only an empty memory shows that nobody is served
        (BUSY, [], False, False),
        (IDLE, [], False, True),
        (None, [], False, False),
        (BUSY, [], True, True),
        # of another server
        (BUSY, [says(in_flight=1, url="http://10.0.0.2:11434")], False, True),
    ],
)
def test_when_it_is_done(
    probe: Probe | None, routers: list[Report | None], last: bool, expected: bool
) -> None:
    one = leaving()
    probes = {} if probe is None else {URL: probe}
    assert drained([one, pod("a-1")], probes, routers, last) == ((one,) if expected else ())


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (leaving(containers=[{"state": {"terminated": {"exitCode": 137}}}]), True),
        (leaving(1, containers=[{"state": {"terminated": {"exitCode": 137}}}]), False),
        (pod("a-0", containerStatuses=[{"state": {"terminated": {}}}]), False),
        (leaving(containers=[{"state": {"waiting": {}}}]), False),
        (leaving(containers=[]), False),
    ],
)
def test_a_server_that_has_died_is_not_waited_for(one: Object, expected: bool) -> None:
    assert drained([one], {URL: BUSY}, [None]) == ((one,) if expected else ())


def test_the_mark_is_ours_alone() -> None:
    its = pod("a-0")
    its["metadata"] |= {"uid": "u", "labels": {"theirs": "x"}}
    mark = draining_mark(its, wanted=True)
    assert mark["metadata"] == {
        "name": "a-0",
        "namespace": "llm",
        "uid": "u",
        "labels": {"ollamafleet.dev/draining": ""},
    }
    assert "labels" not in draining_mark(its, wanted=False)["metadata"]
