"""OllamaNodes on a real Kubernetes: servers come, change, fail and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.cluster import Machine
from dev.cluster.programs import free_ports
from ollama_fleet.kube.kinds import (
    OLLAMA_NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
)
from tests.cluster.conftest import Kubectl
from tests.cluster.elsewhere import emulator
from tests.cluster.fleet import Fleet, external, ollama_node, standing, told
from tests.cluster.waiting import eventually

GIB = 2**30
GPU = {"vendor": "nvidia"}


def test_replicas_become_servers_with_a_volume_each(fleet: Fleet, kubectl: Kubectl) -> None:
    fleet.apply(ollama_node("a", replicas=2, gpu=GPU, storage={"size": "1Gi"}))
    status = fleet.ready(OLLAMA_NODE, "a")["status"]
    assert status["ready"] == "2/2"
    assert status["version"] == "0.17.4"
    machines = fleet.cluster.machines()
    for server in status["servers"]:
        size = machines[server["kubernetesNode"]].gpu_memory // GIB
        assert server["state"] == "Ready"
        assert server["memoryTotal"] == f"{size}Gi"
    assert "ResourceSlice of gpu.nvidia.com" in status["memory"]["source"]
    claims = fleet.all(PERSISTENT_VOLUME_CLAIM)
    assert {claim["metadata"]["name"] for claim in claims} == {"models-a-0", "models-a-1"}
    assert {claim["status"]["phase"] for claim in claims} == {"Bound"}

    kubectl("scale", "ollamanode/a", "--replicas=1", "-n", fleet.namespace)
    eventually("one is left", lambda: list(fleet.servers("a")) == ["a-0"])
    assert fleet.ready(OLLAMA_NODE, "a")["status"]["ready"] == "1/1"
    assert len(fleet.all(PERSISTENT_VOLUME_CLAIM)) == 2


def test_a_machine_that_joins_gets_a_server_and_one_that_leaves_is_forgotten(
    fleet: Fleet,
) -> None:
    fleet.apply(ollama_node("every", perNode={}, gpu=GPU))
    fleet.ready(OLLAMA_NODE, "every")
    first = fleet.servers("every")
    assert told(first.values(), "name", "kubernetesNode", "memoryTotal") == [
        ("every-gpu-12g", "gpu-12g", "12Gi"),
        ("every-gpu-24g", "gpu-24g", "24Gi"),
        ("every-gpu-6g", "gpu-6g", "6Gi"),
    ]
    fleet.cluster.add_machine(Machine("gpu-48g", gpu_memory=48 * GIB))
    try:
        eventually(
            "the new machine has a server",
            lambda: fleet.servers("every").get("every-gpu-48g", {}).get("state") == "Ready",
        )
        assert fleet.servers("every")["every-gpu-48g"]["memoryTotal"] == "48Gi"
        fleet.ready(OLLAMA_NODE, "every")
    finally:
        fleet.cluster.remove_machine("gpu-48g")
    eventually("the machine is forgotten", lambda: fleet.servers("every").keys() == first.keys())
    assert fleet.ready(OLLAMA_NODE, "every")["status"]["ready"] == "3/3"


def test_an_external_server_is_seen_as_it_comes_up(fleet: Fleet, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    fleet.apply(external("box", f"http://127.0.0.1:{port}"))
    message = fleet.stalls(OLLAMA_NODE, "box", "Unreachable")
    assert f"127.0.0.1:{port} cannot be reached" in message
    assert "OLLAMA_HOST=0.0.0.0" in message
    assert fleet.servers("box")["box"]["state"] == "Offline"
    fleet.tells(OLLAMA_NODE, "box", "Unreachable")
    writes = len(fleet.writes())
    with emulator(port, tmp_path):
        status = fleet.ready(OLLAMA_NODE, "box")["status"]
        assert status["version"] == "0.17.4"
        assert status["servers"][0]["memoryTotal"] == "8Gi"
    fleet.tells(OLLAMA_NODE, "box", "Unreachable", "Ready")
    # the status, an Event for it and one for its version, and nothing for each probe that found
    # nobody
    assert len(fleet.writes()) - writes == 3
    assert not fleet.all(POD)


STUCK = {
    "no machine is large enough": (
        ollama_node(gpu={**GPU, "memory": "80Gi"}),
        "Unschedulable",
        ["0 of 3 GPU machines have a GPU with 80 GiB free", "too small", "Lower spec.gpu.memory"],
        {"gpu": {"memory": "5Gi"}},
    ),
    "no such image": (
        ollama_node(image={"repository": "ollama/olama", "tag": "1"}),
        "ImagePullFailed",
        ["ollama/olama:1", "Check spec.image"],
        {"image": {"repository": "ollama/ollama"}},
    ),
    "it crashes": (
        ollama_node(server_env={"OLLAMA_NUM_THREAD": "x", "EMULATOR_TOKENS_PER_SECOND": "fast"}),
        "CrashLoop",
        ["with exit code", "kubectl logs a-0 --previous"],
        {"server": {"env": [{"name": "OLLAMA_FLEET_SERVER", "value": "emulator"}]}},
    ),
}


@pytest.mark.parametrize("why", STUCK)
def test_what_is_stuck_says_what_to_do_and_goes_on_when_that_is_done(
    fleet: Fleet, why: str
) -> None:
    node, reason, words, cure = STUCK[why]
    fleet.apply(node)
    message = fleet.stalls(OLLAMA_NODE, "a", reason)
    for word in words:
        assert word in message
    fleet.tells(OLLAMA_NODE, "a", reason)
    fleet.patch(OLLAMA_NODE, "a", {"spec": cure})
    ready = standing(fleet.ready(OLLAMA_NODE, "a"))
    assert ready is not None
    assert not ready.stalled
    fleet.tells(OLLAMA_NODE, "a", reason, "Ready")


def test_a_taken_gpu_is_told_with_who_has_it(fleet: Fleet) -> None:
    fleet.apply(ollama_node("first", replicas=3, gpu=GPU))
    fleet.ready(OLLAMA_NODE, "first")
    fleet.apply(ollama_node("second", gpu={**GPU, "memory": "20Gi"}))
    message = fleet.stalls(OLLAMA_NODE, "second", "Unschedulable")
    assert "gpu-6g is too small (6 GiB)" in message
    assert f"gpu-24g is taken by {fleet.namespace}/first-" in message
    fleet.delete(OLLAMA_NODE, "first")
    fleet.ready(OLLAMA_NODE, "second")
    fleet.tells(OLLAMA_NODE, "second", "Unschedulable", "Ready")


def test_a_crashed_server_is_offline_and_comes_back(fleet: Fleet) -> None:
    fleet.apply(ollama_node())
    fleet.ready(OLLAMA_NODE, "a")
    registered = fleet.servers("a")["a-0"]["registeredAt"]
    (pod,) = fleet.pods("a")
    fleet.kill(pod)
    fleet.until(OLLAMA_NODE, "a", lambda obj: (now := standing(obj)) is not None and not now.ready)
    fleet.ready(OLLAMA_NODE, "a")
    assert fleet.servers("a")["a-0"]["registeredAt"] == registered
