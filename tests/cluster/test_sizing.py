"""Models chosen by what they need, on a real Kubernetes; their files are as large as real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from dev.ollama import process
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, Object
from tests.cluster.conftest import Kubectl, operator_stopped
from tests.cluster.fleet import Api, Fleet, distribution, ollama_node, told
from tests.cluster.waiting import eventually

BIG, MIDDLE, SMALL = "gpt-oss:20b", "llama3.1:8b", "llama3.2:1b"
UNREAD = "qwen3:4b"
"""Of which no other test reads the header."""
EMULATED = [{"name": "OLLAMA_FLEET_SERVER", "value": "emulator"}]


@pytest.fixture(scope="module")
def source() -> Iterator[Object]:
    """A registry whose models have their real sizes, of which nobody sends the bytes."""
    with process.registry("--form", "sized") as (url, _):
        yield {"registry": url.removeprefix("http://"), "insecure": True}


def task(fleet: Fleet, model: str, state: str, name: str = "m") -> Object:
    """The only task, once it is of that model and in that state."""

    def check() -> Object | None:
        (one,) = fleet.tasks(name) or [{}]
        return one if (one.get("model"), one.get("state")) == (model, state) else None

    found = eventually(f"{model} is {state}", check)
    assert found is not None
    return found


def test_each_machine_gets_the_first_candidate_that_fits(fleet: Fleet, source: Object) -> None:
    fleet.apply(
        ollama_node("every", perNode={}, gpu={"vendor": "nvidia"}),
        distribution("m", bestFit={"candidates": [BIG, MIDDLE, SMALL]}, source=source),
    )
    done = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]
    because = "(context 8192 × 1, f16); bestFit: the first of 3 that fits"
    assert told(done["tasks"], "server", "model", "state", "message") == [
        ("every-gpu-12g", MIDDLE, "Installed", f"needs 7.1 GiB, has 12.0 GiB {because}"),
        ("every-gpu-24g", BIG, "Installed", f"needs 14.8 GiB, has 24.0 GiB {because}"),
        ("every-gpu-6g", SMALL, "Installed", f"needs 3.0 GiB, has 6.0 GiB {because}"),
    ]
    assert {
        pod["spec"]["nodeName"]: set(fleet.emulator(pod).installed()) for pod in fleet.pods("every")
    } == {"gpu-24g": {BIG}, "gpu-12g": {MIDDLE}, "gpu-6g": {SMALL}}
    fleet.rests(3)


def test_what_is_too_large_is_told_and_replaced_and_stays_where_it_is(
    fleet: Fleet, source: Object
) -> None:
    def listed(*fallbacks: str, **sizing: Any) -> Object:
        models = [{"name": BIG, "fallbacks": list(fallbacks)}]
        return distribution("m", models=models, source=source, sizing=sizing)

    fleet.apply(ollama_node(), listed())
    words = "needs 14.8 GiB, has 8.0 GiB (context 8192 × 1, f16); listed. Lower sizing."
    message = fleet.stalls(MODEL_DISTRIBUTION, "m", "DoesNotFit")
    assert message.startswith(f"{BIG} on a-0: {words}")
    assert task(fleet, BIG, "Misfit")["message"].startswith(words)
    fleet.ready(OLLAMA_NODE, "a")
    (pod,) = fleet.pods("a")
    emulator = fleet.emulator(pod)
    assert emulator.installed() == {}

    fleet.apply(listed(MIDDLE, SMALL))
    note = f"listed, fallback of {BIG}, which needs 14.8 GiB"
    assert task(fleet, MIDDLE, "Installed")["message"].endswith(note)
    fleet.ready(MODEL_DISTRIBUTION, "m")
    assert set(emulator.installed()) == {MIDDLE}

    fleet.apply(listed(MIDDLE, SMALL, contextLength=32768))
    assert "(context 32768 × 1, f16)" in task(fleet, SMALL, "Installed")["message"]
    assert set(emulator.installed()) == {MIDDLE, SMALL}

    fleet.apply(listed(onMisfit="PullAnyway"))
    assert task(fleet, BIG, "Installed")["reason"] == "DoesNotFit"
    fleet.ready(MODEL_DISTRIBUTION, "m")
    fleet.apply(listed(onMisfit="Skip"))
    assert "it stays installed" in task(fleet, BIG, "Installed")["message"]
    assert set(emulator.installed()) == {BIG, MIDDLE, SMALL}


def test_the_settings_of_the_servers_decide_again(fleet: Fleet, source: Object) -> None:
    fleet.apply(
        ollama_node(server={"env": EMULATED, "kvCacheType": "q8_0"}),
        distribution("m", bestFit={"candidates": [MIDDLE, SMALL]}, source=source, dryRun=True),
    )
    planned = eventually("it is planned", lambda: _planned(fleet, MIDDLE))
    assert planned.startswith("needs 6.6 GiB, has 8.0 GiB (context 8192 × 1, q8_0); would be")
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"server": {"contextLength": 16384, "parallel": 2}}})
    planned = eventually("it is planned anew", lambda: _planned(fleet, SMALL))
    assert "(context 16384 × 2, q8_0)" in planned


def test_what_the_registry_does_not_say_of_a_model_the_server_that_has_it_does(
    fleet: Fleet, source: Object, kubectl: Kubectl, api: Api
) -> None:
    with process.registry("--form", "sized") as (url, _):
        fault = {"kind": "error", "count": 10**6}  # of all bytes, and so of the model's header
        httpx2.post(f"{url}/_registry/faults", json=fault, trust_env=False).raise_for_status()
        closed = {"registry": url.removeprefix("http://"), "insecure": True}
        fleet.apply(ollama_node(), distribution("m", UNREAD, source=closed, dryRun=True))
        guessed = eventually("it is planned", lambda: _planned(fleet, UNREAD))
        how = "(estimated from its size alone)"
        assert guessed.startswith(f"needs about 3.8 GiB, has 8.0 GiB {how}")

        (pod,) = fleet.pods("a")
        there = fleet.emulator(pod).url
        other = f"{source['registry']}/library/{UNREAD}"
        pulled = {"model": other, "insecure": True, "stream": False}
        copied = {"source": other, "destination": UNREAD}
        for path, body in (("/api/pull", pulled), ("/api/copy", copied)):
            answer = httpx2.post(there + path, json=body, timeout=60, trust_env=False)
            assert answer.status_code == 200, answer.text
        computed = "needs 5.0 GiB, has 8.0 GiB (context 8192 × 1, f16); listed"
        assert task(fleet, UNREAD, "Installed")["message"] == computed
    # an operator that has just begun, and never heard of a registry, says the same
    with operator_stopped(kubectl, api):
        fleet.delete(MODEL_DISTRIBUTION, "m")
    fleet.apply(distribution("n", UNREAD, source={**closed, "registry": "127.0.0.1:1"}))
    assert task(fleet, UNREAD, "Installed", "n")["message"] == computed
    fleet.rests(3)


def _planned(fleet: Fleet, model: str) -> str:
    found = [one for one in fleet.tasks("m") if one["model"] == model]
    return str(found[0]["message"]) if found and found[0].get("reason") == "DryRun" else ""
