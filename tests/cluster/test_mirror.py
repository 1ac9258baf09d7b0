"""The mirror on a real Kubernetes: a fleet whose models come through it, each once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from dev.cluster.cluster import REPOSITORY
from ollama_fleet.kube.kinds import DEPLOYMENT, MODEL_DISTRIBUTION, POD
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import OPERATOR, SMALL, Api, Fleet, Registry, distribution, ollama_node
from tests.cluster.waiting import eventually

MIRROR = "ollama-fleet-mirror"
HEAD = 64 * 1024
OTHER = "qwen3:1.7b"
ROLLED_OUT = ("rollout", "status", "-n", OPERATOR, "--timeout=60s")


@pytest.fixture(scope="module")
def mirror(kubectl: Kubectl, api: Api, operator: None) -> Iterator[str]:
    """The mirror as manifests/ has it, with an operator that is told where it is; its address.

    Names of Services lead nowhere here, so it is told the pod's address.
    """
    manifest = str(REPOSITORY / "manifests" / "mirror" / "mirror.yaml")
    kubectl("apply", "--server-side", "-f", manifest)
    kubectl(*ROLLED_OUT, f"statefulset/{MIRROR}")
    pod, deployment = api.get(POD, f"{MIRROR}-0", OPERATOR), api.get(DEPLOYMENT, OPERATOR, OPERATOR)
    assert pod
    assert deployment
    address = f"{pod['status']['podIP']}:5000"
    before = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    _run_with(kubectl, [*before, f"--mirror={address}", "--probe-interval=1s"])
    yield address
    _run_with(kubectl, before)
    kubectl("delete", "-f", manifest)
    kubectl("delete", "pvc", "--all", "-n", OPERATOR)


def _run_with(kubectl: Kubectl, arguments: list[str]) -> None:
    path = "/spec/template/spec/containers/0/args"
    change = json.dumps([{"op": "replace", "path": path, "value": arguments}])
    kubectl("patch", f"deployment/{OPERATOR}", "-n", OPERATOR, "--type=json", "-p", change)
    kubectl(*ROLLED_OUT, f"deployment/{OPERATOR}")


def test_a_fleet_downloads_a_model_once(mirror: str, fleet: Fleet, registry: Registry) -> None:
    before = registry.served()
    fleet.apply(
        ollama_node(replicas=3),
        distribution("m", SMALL, rollout={"maxParallel": 3}),
    )
    done = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]
    assert done["summary"]["installed"] == 3
    # the model, and before it the head of its file, by which its need is computed
    assert registry.served() - before == done["tasks"][0]["totalBytes"] + HEAD
    for pod in fleet.pods("a"):
        assert set(fleet.emulator(pod).installed()) == {SMALL}


def test_a_name_that_a_stopped_operator_left_goes(mirror: str, fleet: Fleet) -> None:
    fleet.apply(ollama_node(), distribution("m", OTHER))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    (pod,) = fleet.pods("a")
    server = fleet.emulator(pod)
    left = f"{mirror}/library/{OTHER}"
    server.copy(OTHER, left)
    assert set(server.installed()) == {OTHER, left}
    eventually("it has its own name alone", lambda: set(server.installed()) == {OTHER})
