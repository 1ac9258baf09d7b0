"""Requirements and room on disk, on a real Kubernetes: what is too small gets no models."""

from __future__ import annotations

import httpx2

from ollama_fleet.kube.kinds import (
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    PERSISTENT_VOLUME_CLAIM,
    ROUTER,
    Object,
)
from tests.cluster.fleet import LARGE, SMALL, Fleet, distribution, ollama_node, router, told
from tests.cluster.waiting import eventually

QWEN = "qwen3:1.7b"


def volume(name: str, size: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    }


def test_an_unfit_server_gets_no_more_models_and_serves_those_it_has(fleet: Fleet) -> None:
    fleet.apply(ollama_node(requirements={"memory": "16Gi"}), distribution("m", SMALL), router())
    for kind, name in ((OLLAMA_NODE, "a"), (MODEL_DISTRIBUTION, "m")):
        message = fleet.stalls(kind, name, "RequirementsUnmet")
        assert "a-0 needs 16 GiB of memory for models, has 8 GiB" in message
        assert "Lower spec.requirements.memory" in message
    assert fleet.servers("a")["a-0"]["state"] == "Unfit"
    assert told(fleet.tasks("m"), "state", "reason") == [("Misfit", "RequirementsUnmet")]
    (pod,) = fleet.pods("a")
    assert fleet.emulator(pod).installed() == {}
    fleet.rests(3)

    fleet.patch(OLLAMA_NODE, "a", {"spec": {"requirements": {"memory": "8Gi"}}})
    fleet.ready(OLLAMA_NODE, "a")
    fleet.ready(MODEL_DISTRIBUTION, "m")

    fleet.patch(OLLAMA_NODE, "a", {"spec": {"requirements": {"memory": "9Gi"}}})
    fleet.stalls(OLLAMA_NODE, "a", "RequirementsUnmet")
    fleet.apply(distribution("m", SMALL, QWEN))
    fleet.stalls(MODEL_DISTRIBUTION, "m", "RequirementsUnmet")
    assert told(fleet.tasks("m"), "model", "state") == [(SMALL, "Installed"), (QWEN, "Misfit")]
    body = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    answer = httpx2.post(f"{fleet.url()}/api/chat", json=body, timeout=20, trust_env=False)
    assert answer.json()["done"]
    assert fleet.status(ROUTER, "chat")["servers"] == {"ready": 1, "total": 1, "summary": "1/1"}


def test_each_machine_is_checked_by_itself(fleet: Fleet) -> None:
    fleet.apply(
        ollama_node("every", perNode={}, gpu={}, requirements={"memory": "10Gi", "disk": "1Ti"}),
        distribution("m", SMALL),
    )
    message = fleet.stalls(OLLAMA_NODE, "every", "RequirementsUnmet")
    assert "every-gpu-6g needs 10 GiB of memory for models, has 6 GiB" in message
    fleet.stalls(MODEL_DISTRIBUTION, "m", "RequirementsUnmet")
    eventually(
        "the others have it",
        lambda: (
            told(fleet.tasks("m"), "server", "state")
            == [
                ("every-gpu-12g", "Installed"),
                ("every-gpu-24g", "Installed"),
                ("every-gpu-6g", "Misfit"),
            ]
        ),
    )
    assert fleet.status(OLLAMA_NODE, "every")["ready"] == "2/3"
    assert told(fleet.servers("every").values(), "diskTotal") == [("1024Gi",)] * 3


def test_a_model_waits_for_room_on_the_volume(fleet: Fleet) -> None:
    fleet.apply(ollama_node(storage={"size": "34Mi"}), distribution("m", SMALL))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    fleet.until(OLLAMA_NODE, "a", lambda obj: obj["status"]["servers"][0].get("installed"))
    server = fleet.servers("a")["a-0"]
    assert (server["diskTotal"], server["diskFree"]) == ("34Mi", "27Mi")

    fleet.apply(distribution("m", SMALL, LARGE))
    message = fleet.stalls(MODEL_DISTRIBUTION, "m", "NotEnoughDisk")
    assert f"{LARGE}: needs 3" in message
    assert "free 28 MiB of 34 MiB on a-0 (volume models-a-0)" in message
    assert "Raise spec.storage.size of OllamaNode a, or delete models there" in message
    assert told(fleet.tasks("m"), "model", "state", "reason") == [
        (LARGE, "Misfit", "NotEnoughDisk"),
        (SMALL, "Installed", "Installed"),
    ]
    fleet.rests(3)
    assert fleet.reasons(MODEL_DISTRIBUTION, "m").count("PullStarted") == 1

    fleet.patch(OLLAMA_NODE, "a", {"spec": {"storage": {"size": "80Mi"}}})
    fleet.ready(MODEL_DISTRIBUTION, "m")
    grown = fleet.until(
        OLLAMA_NODE, "a", lambda obj: obj["status"]["servers"][0]["installed"] == 2 and obj
    )["status"]["servers"][0]
    # both models, what they share counted once
    assert (grown["diskTotal"], grown["diskFree"]) == ("80Mi", "43Mi")


def test_a_fallback_stands_in_for_a_model_that_finds_no_room(fleet: Fleet) -> None:
    wanted = distribution("m", models=[{"name": LARGE, "fallbacks": [SMALL]}])
    fleet.apply(ollama_node(storage={"size": "20Mi"}), wanted)
    fleet.ready(MODEL_DISTRIBUTION, "m")
    ((model, message),) = told(fleet.tasks("m"), "model", "message")
    assert model == SMALL
    # as it is now: the two share a layer, and the fallback takes room itself
    needs = f"listed, fallback of {LARGE}, which needs 30 MiB of disk, where 14 MiB are free"
    assert message.endswith(needs)
    fleet.rests(3)

    fleet.patch(OLLAMA_NODE, "a", {"spec": {"storage": {"size": "80Mi"}}})
    installed = [(LARGE, "Installed")]
    eventually(
        "the model itself is there", lambda: told(fleet.tasks("m"), "model", "state") == installed
    )
    fleet.ready(MODEL_DISTRIBUTION, "m")


def test_a_claim_of_the_users_own_is_measured_too(fleet: Fleet) -> None:
    fleet.apply(
        volume("shelf", "40Mi"),
        ollama_node(storage={"existingClaim": "shelf"}, requirements={"disk": "1Gi"}),
    )
    message = fleet.stalls(OLLAMA_NODE, "a", "RequirementsUnmet")
    assert "a-0 needs 1 GiB of disk for models, has 40 MiB (volume shelf)" in message
    assert "Grow PersistentVolumeClaim shelf, or lower spec.requirements.disk" in message
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"requirements": None}})
    (server,) = fleet.ready(OLLAMA_NODE, "a")["status"]["servers"]
    assert (server["diskTotal"], server["diskFree"]) == ("40Mi", "40Mi")
    assert fleet.all(PERSISTENT_VOLUME_CLAIM)[0]["metadata"]["name"] == "shelf"
