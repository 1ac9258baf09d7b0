"""ModelDistributions on a real Kubernetes: models land, fail, resume and stay."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, Object
from tests.cluster.fleet import (
    LARGE,
    SMALL,
    Emulator,
    Fleet,
    Registry,
    distribution,
    ollama_node,
    told,
)
from tests.cluster.waiting import eventually

SLOW = {"EMULATOR_PULL_BYTES_PER_SECOND": "5M"}
"""The large model takes some six seconds."""
MIB = 2**20
FULL = "no space left on device"


def server(fleet: Fleet, **spec: Any) -> Emulator:
    """One emulated server, Ready."""
    fleet.apply(ollama_node(**spec))
    fleet.ready(OLLAMA_NODE, "a")
    (pod,) = fleet.pods("a")
    return fleet.emulator(pod)


def pulling(fleet: Fleet, name: str = "m") -> Object:
    """The one task, once it is seen to pull."""

    def check() -> Object | None:
        tasks = fleet.tasks(name)
        seen = tasks and tasks[0]["state"] == "Pulling" and tasks[0].get("progress", 0) > 0
        return tasks[0] if seen else None

    found = eventually("the pull is under way", check)
    assert found is not None
    return found


def test_models_and_tiers_land_by_memory(fleet: Fleet, registry: Registry) -> None:
    fleet.apply(
        ollama_node("every", perNode={}, gpu={"vendor": "nvidia"}),
        distribution(
            "base",
            SMALL,
            tiers=[
                {"minMemory": "16G", "models": [{"name": "qwen3:8b"}]},
                {"minMemory": "8G", "models": [{"name": "qwen3:4b"}]},
                {"minMemory": "4.5G", "models": [{"name": "qwen3:1.7b"}]},
            ],
        ),
    )
    done = fleet.ready(MODEL_DISTRIBUTION, "base")["status"]
    assert told(done["tasks"], "server", "model", "state") == [
        ("every-gpu-12g", SMALL, "Installed"),
        ("every-gpu-12g", "qwen3:4b", "Installed"),
        ("every-gpu-24g", SMALL, "Installed"),
        ("every-gpu-24g", "qwen3:8b", "Installed"),
        ("every-gpu-6g", SMALL, "Installed"),
        ("every-gpu-6g", "qwen3:1.7b", "Installed"),
    ]
    assert {"desired": 6, "installed": 6}.items() <= done["summary"].items()
    assert done["progress"]["percent"] == "100%"
    for task in done["tasks"]:
        assert task["digest"] == registry.digest(task["model"])
    by_machine = {
        pod["spec"]["nodeName"]: set(fleet.emulator(pod).installed()) for pod in fleet.pods("every")
    }
    assert by_machine == {
        "gpu-24g": {SMALL, "qwen3:8b"},
        "gpu-12g": {SMALL, "qwen3:4b"},
        "gpu-6g": {SMALL, "qwen3:1.7b"},
    }
    assert eventually(
        "every server tells its models",
        lambda: {one["installed"] for one in fleet.servers("every").values()} == {2},
    )


def test_progress_speed_and_time_left_are_told_every_two_seconds(fleet: Fleet) -> None:
    server(fleet, server_env=SLOW)
    fleet.apply(distribution("m", LARGE))
    seen: dict[str, Object] = {}

    def installed() -> bool:
        found = fleet.get(MODEL_DISTRIBUTION, "m") or {}
        seen[found["metadata"]["resourceVersion"]] = found.get("status") or {}
        return bool(found.get("status", {}).get("summary", {}).get("installed"))

    eventually("the model is installed", installed)
    under_way = [
        status["tasks"][0]
        for status in seen.values()
        if status.get("tasks") and status["tasks"][0]["state"] == "Pulling"
    ]
    fractions = [task["progress"] for task in under_way]
    assert len(set(fractions)) >= 3
    assert fractions == sorted(fractions)
    moving = [status["progress"] for status in seen.values() if "eta" in status.get("progress", {})]
    assert moving
    for progress in moving[1:]:
        assert 2 * MIB < progress["bytesPerSecond"] < 10 * MIB
        assert progress["totalBytes"] > 25 * MIB
    times = [
        datetime.fromisoformat(call.at)
        for call in fleet.writes()
        if call.resource == "modeldistributions/status"
    ]
    # the first two tell of the start, the last two of the end
    gaps = [(after - before).total_seconds() for before, after in pairwise(times[2:-2])]
    assert all(gap > 1.8 for gap in gaps), gaps


def test_a_failed_pull_is_tried_again_later_and_later(fleet: Fleet) -> None:
    emulator = server(fleet)
    emulator.fault("error", path="/api/pull", message=FULL, count=2)
    fleet.apply(distribution("m", SMALL))
    waiting = eventually(
        "it backs off",
        lambda: next((one for one in fleet.tasks("m") if one.get("reason") == "BackingOff"), None),
    )
    assert waiting is not None
    assert FULL in waiting["message"]
    assert "of 3 at" in waiting["message"]
    fleet.ready(MODEL_DISTRIBUTION, "m")
    events = fleet.events(MODEL_DISTRIBUTION, "m")
    begun = [
        datetime.fromisoformat(event["eventTime"])
        for event in events
        if event["reason"] == "PullStarted"
    ]
    first, second = ((b - a).total_seconds() for a, b in pairwise(begun))
    assert 0.9 < first < second
    assert [event["reason"] for event in events].count("DiskFull") == 2
    assert SMALL in emulator.installed()


def test_three_failures_stall_until_the_spec_changes(fleet: Fleet) -> None:
    emulator = server(fleet)
    emulator.fault("error", path="/api/pull", message=FULL)
    fleet.apply(distribution("m", SMALL, rollout={"retry": {"backoff": "100ms"}}))
    message = fleet.stalls(MODEL_DISTRIBUTION, "m", "DiskFull")
    assert FULL in message
    assert "make its store larger" in message
    assert "3 attempts" in message
    assert "change the spec" in message
    (task,) = fleet.tasks("m")
    assert (task["state"], task["attempts"]) == ("Failed", 3)
    emulator.mend()
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"rollout": {"maxParallel": 3}}})
    fleet.ready(MODEL_DISTRIBUTION, "m")


def test_a_wrong_download_is_never_installed(fleet: Fleet, registry: Registry) -> None:
    emulator = server(fleet)
    emulator.fault("digest_mismatch", path="/api/pull", count=1)
    fleet.apply(distribution("m", SMALL, rollout={"retry": {"attempts": 1}}))
    assert "digest mismatch" in fleet.stalls(MODEL_DISTRIBUTION, "m", "DigestMismatch")
    assert fleet.status(MODEL_DISTRIBUTION, "m")["summary"]["installed"] == 0
    assert SMALL not in emulator.installed()


def test_a_pull_goes_on_where_a_killed_server_left_off(fleet: Fleet, registry: Registry) -> None:
    server(fleet, server_env=SLOW)
    fleet.apply(distribution("m", LARGE))
    before = registry.served()
    eventually("most is there", lambda: pulling(fleet)["progress"] > 0.6)
    (pod,) = fleet.pods("a")
    fleet.kill(pod)
    done = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]
    size = done["tasks"][0]["totalBytes"]
    # from the start again it would be 1.6 times its size; some is in flight when the server dies
    assert registry.served() - before < 1.4 * size
    # a lost server uses up no attempt
    assert done["tasks"][0].get("attempts", 0) == 0


def test_suspend_pauses_and_goes_on(fleet: Fleet, registry: Registry) -> None:
    server(fleet, server_env=SLOW)
    fleet.apply(distribution("m", LARGE))
    pulling(fleet)
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"suspend": True}})
    eventually("it is paused", lambda: fleet.tasks("m")[0]["state"] == "Paused")
    served = eventually("no more is served", lambda: _rests(registry))
    assert "suspended" in fleet.tasks("m")[0]["message"]
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"suspend": False}})
    fleet.ready(MODEL_DISTRIBUTION, "m")
    assert registry.served() > served


def _rests(registry: Registry) -> int:
    """Bytes served, if no more were between two looks."""
    before = registry.served()
    return before if registry.served() == before else 0


def test_a_dry_run_pulls_nothing(fleet: Fleet) -> None:
    emulator = server(fleet)
    fleet.apply(distribution("m", SMALL, dryRun=True))
    eventually("it is planned", lambda: told(fleet.tasks("m"), "reason") == [("DryRun",)])
    (task,) = fleet.tasks("m")
    assert "would be pulled" in task["message"]
    assert emulator.installed() == {}
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"dryRun": False}})
    fleet.ready(MODEL_DISTRIBUTION, "m")


@pytest.mark.parametrize("right", [True, False])
def test_a_pin(fleet: Fleet, registry: Registry, right: bool) -> None:
    emulator = server(fleet)
    digest = registry.digest(SMALL) if right else "sha256:" + "a" * 64
    fleet.apply(distribution("m", models=[{"name": SMALL, "digest": digest}]))
    if right:
        (task,) = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]["tasks"]
        assert task["digest"] == digest
    else:
        message = fleet.stalls(MODEL_DISTRIBUTION, "m", "DigestMismatch")
        assert registry.digest(SMALL) in message
        assert "Pin the new digest after review" in message
        assert emulator.installed() == {}


def test_two_that_want_one_model_share_it_and_leave_it(fleet: Fleet, registry: Registry) -> None:
    emulator = server(fleet)
    before = registry.served()
    fleet.apply(distribution("m", SMALL), distribution("n", SMALL))
    size = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]["tasks"][0]["totalBytes"]
    fleet.ready(MODEL_DISTRIBUTION, "n")
    assert registry.served() - before < 1.5 * size
    fleet.delete(MODEL_DISTRIBUTION, "m")
    fleet.gone(MODEL_DISTRIBUTION, "m")
    fleet.delete(MODEL_DISTRIBUTION, "n")
    fleet.gone(MODEL_DISTRIBUTION, "n")
    assert SMALL in emulator.installed()


def test_a_real_server_pulls_too(fleet: Fleet, registry: Registry) -> None:
    emulator = server(fleet, server={})
    fleet.apply(distribution("m", SMALL))
    (task,) = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]["tasks"]
    fleet.tells(MODEL_DISTRIBUTION, "m", "PullStarted", "PullCompleted", "Ready")
    assert task["digest"] == registry.digest(SMALL)
    assert f"sha256:{emulator.installed()[SMALL]}" == task["digest"]
