"""Rollouts in time, on a real Kubernetes: pulls keep to their hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, Object
from tests.cluster.conftest import Kubectl, operator_stopped
from tests.cluster.fleet import (
    LARGE,
    SMALL,
    Api,
    Fleet,
    Registry,
    distribution,
    ollama_node,
    standing,
)
from tests.cluster.waiting import eventually

HALF = 20_000_000
"""Bytes, of the 32 MB of the large model."""


def window(begins: timedelta, ends: timedelta) -> Object:
    """A window in UTC that begins and ends so long from now, to the minute."""
    now = datetime.now(UTC)
    return {"start": f"{now + begins:%H:%M}", "end": f"{now + ends:%H:%M}", "timeZone": "UTC"}


HOUR = timedelta(hours=1)
MODEL = "qwen3:0.6b"
"""What no other test installs: it comes to stand for another."""


def test_pulls_wait_for_the_window(fleet: Fleet, registry: Registry) -> None:
    fleet.apply(ollama_node())
    fleet.ready(OLLAMA_NODE, "a")
    before, later = registry.served(), window(2 * HOUR, 3 * HOUR)
    fleet.apply(distribution("m", SMALL, rollout={"window": later}))
    fleet.until(
        MODEL_DISTRIBUTION,
        "m",
        lambda obj: (now := standing(obj)) and now.reason == "OutsideWindow" and not now.stalled,
    )
    status = fleet.status(MODEL_DISTRIBUTION, "m")
    (task,) = status["tasks"]
    assert (task["state"], task["reason"]) == ("Paused", "OutsideWindow")
    assert f"{later['start']} UTC" in task["message"]
    opens = datetime.fromisoformat(status["nextWindow"])
    assert f"{opens:%H:%M}" == later["start"]
    assert HOUR < opens - datetime.now(UTC) < 2 * HOUR
    # the head of the model's file was read, to size it, and no more
    assert registry.served() - before < 1e6
    fleet.rests(3)
    change = {"spec": {"rollout": {"window": window(-HOUR, HOUR)}}}
    fleet.patch(MODEL_DISTRIBUTION, "m", change)
    done = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]
    assert "nextWindow" not in done
    assert registry.served() - before > 1e6


def test_a_pull_stops_with_the_window_and_goes_on_where_it_was(
    fleet: Fleet, registry: Registry
) -> None:
    # a window ends with a minute: the pull is as fast as will have got half way by then
    ends = (datetime.now(UTC) + timedelta(seconds=80)).replace(second=0, microsecond=0)
    left = (ends - datetime.now(UTC)).total_seconds()
    speed = {"EMULATOR_PULL_BYTES_PER_SECOND": str(int(HALF / (left - 5)))}
    fleet.apply(
        ollama_node(server_env=speed),
        distribution("m", LARGE, rollout={"window": window(-HOUR, ends - datetime.now(UTC))}),
    )
    seen: list[int] = []

    def paused() -> bool:
        tasks = fleet.tasks("m")
        seen.extend(t["completedBytes"] for t in tasks if t["state"] == "Pulling")
        return [t.get("reason") for t in tasks] == ["OutsideWindow"]

    eventually("it is paused", paused, within=100)
    assert timedelta() <= datetime.now(UTC) - ends < timedelta(seconds=10)
    assert fleet.tasks("m")[0]["attempts"] == 0
    fleet.rests(3)
    served = registry.served()
    change = {"spec": {"rollout": {"window": window(-HOUR, HOUR)}}}
    fleet.patch(MODEL_DISTRIBUTION, "m", change)

    def goes_on() -> int:
        return next((t["completedBytes"] for t in fleet.tasks("m") if t["state"] == "Pulling"), 0)

    there = eventually("it goes on", goes_on)
    assert there >= max(seen) > HALF / 2
    # from the start again, all of that would have had to come anew; what the registry sends
    # and the pull has not yet read is not much less than half of it
    assert registry.served() - served < there


@pytest.fixture
def renewed(registry: Registry) -> Iterator[Callable[[str], None]]:
    """Lets the name of a model stand for another one, until the test is over."""
    yield lambda other: registry.renew(MODEL, other)
    registry.renew(MODEL, MODEL)


def test_what_the_registry_has_newer_comes_when_it_is_asked(
    fleet: Fleet,
    registry: Registry,
    renewed: Callable[[str], None],
    kubectl: Kubectl,
    api: Api,
) -> None:
    first = registry.digest(MODEL)
    fleet.apply(ollama_node(), distribution("m", MODEL, rollout={"schedule": "0 0 1 1 *"}))
    assert fleet.ready(MODEL_DISTRIBUTION, "m")["status"]["tasks"][0]["digest"] == first
    renewed("qwen3:1.7b")
    second = registry.digest(MODEL)
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"rollout": {"maxParallel": 3}}})
    fleet.rests(3)
    (task,) = fleet.tasks("m")
    assert (task["state"], task["digest"]) == ("Installed", first)
    with operator_stopped(kubectl, api):
        # as if it had been away for years
        path = MODEL_DISTRIBUTION.path(fleet.namespace, "m") + "/status"
        missed = {"status": {"lastSync": "2020-01-01T12:00:00Z"}}
        api.call("PATCH", path, missed, "application/merge-patch+json")

    def pulled(digest: str) -> bool:
        (task,) = fleet.tasks("m")
        return (task["state"], task.get("digest")) == ("Installed", digest)

    eventually("the newer one is there", lambda: pulled(second))
    status = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]
    assert status["outdated"] == [{"model": MODEL, "digest": first}]
    ago = datetime.now(UTC) - datetime.fromisoformat(status["lastSync"])
    assert ago < timedelta(minutes=1)
    assert status["nextSync"].endswith("-01-01T00:00:00Z")
    renewed(MODEL)
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"pullPolicy": "Always"}})
    eventually("and the first again", lambda: pulled(first))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    fleet.rests(3)


def test_a_schedule_and_a_time_zone_that_are_none_stall(fleet: Fleet) -> None:
    fleet.apply(distribution("m", SMALL, rollout={"schedule": "61 * * * *"}))
    message = fleet.stalls(MODEL_DISTRIBUTION, "m", "InvalidSpec")
    assert 'write minute, hour, day, month and weekday, such as "0 3 * * *"' in message
    nowhere = {**window(-HOUR, HOUR), "timeZone": "Asia/Bejing"}
    change = {"spec": {"rollout": {"schedule": None, "window": nowhere}}}
    fleet.patch(MODEL_DISTRIBUTION, "m", change)
    fleet.until(
        MODEL_DISTRIBUTION,
        "m",
        lambda obj: (now := standing(obj)) and now.stalled and "Asia/Bejing" in now.message,
    )
