"""The mirror on a real Kubernetes: a fleet whose models come through it, each once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.cluster.cluster import REPOSITORY
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, POD
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import OPERATOR, SMALL, Api, Fleet, Registry, distribution, ollama_node

MIRROR = "ollama-fleet-mirror"
ROLLED_OUT = ("rollout", "status", "-n", OPERATOR, "--timeout=60s")


@pytest.fixture
def mirror(kubectl: Kubectl, api: Api, operator: None) -> Iterator[str]:
    """The mirror as manifests/ has it, with an operator that is told where it is; its address.

    Names of Services lead nowhere here, so it is told the pod's address.
    """
    manifest = str(REPOSITORY / "manifests" / "mirror" / "mirror.yaml")
    kubectl("apply", "--server-side", "-f", manifest)
    kubectl(*ROLLED_OUT, f"statefulset/{MIRROR}")
    pod = api.get(POD, f"{MIRROR}-0", OPERATOR)
    assert pod
    address = f"{pod['status']['podIP']}:5000"
    change = ("set", "env", f"deployment/{OPERATOR}", "-n", OPERATOR)
    kubectl(*change, f"OLLAMA_FLEET_MIRROR={address}")
    kubectl(*ROLLED_OUT, f"deployment/{OPERATOR}")
    yield address
    kubectl(*change, "OLLAMA_FLEET_MIRROR-")
    kubectl(*ROLLED_OUT, f"deployment/{OPERATOR}")
    kubectl("delete", "-f", manifest)
    kubectl("delete", "pvc", "--all", "-n", OPERATOR)


def test_a_fleet_downloads_a_model_once(mirror: str, fleet: Fleet, registry: Registry) -> None:
    before = registry.served()
    fleet.apply(
        ollama_node(replicas=3),
        distribution("m", SMALL, rollout={"maxParallel": 3}),
    )
    done = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]
    assert done["summary"]["installed"] == 3
    assert registry.served() - before == done["tasks"][0]["totalBytes"]
    for pod in fleet.pods("a"):
        assert set(fleet.emulator(pod).installed()) == {SMALL}
