"""GPUs of every kind on a real scheduler: by device plugin and by ResourceClaim."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.cluster import Cluster, Machine
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.kube.kinds import (
    OLLAMA_NODE,
    RESOURCE_CLAIM,
    RESOURCE_CLAIM_TEMPLATE,
    STATEFUL_SET,
    Object,
)
from tests.cluster.fleet import Fleet, ollama_node
from tests.cluster.waiting import eventually

GIB = 2**30
CLAIM: Object = {"allocation": "ResourceClaim"}
MIG, SHARED = "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"

MACHINES = (
    Machine(
        "a100-mig",
        gpu_memory=40 * GIB,
        resources={"nvidia.com/gpu": "0", MIG: "4"},
        labels={
            "nvidia.com/mig.strategy": "mixed",
            f"{MIG}.memory": "9728",
            f"{MIG}.count": "4",
            f"{MIG}.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.10gb",
        },
    ),
    Machine(
        "l40-mps",
        gpu_memory=40 * GIB,
        resources={"nvidia.com/gpu": "0", SHARED: "4"},
        labels={"nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "mps"},
    ),
    # an MI300X of 192 GiB as its driver tells it
    Machine("mi300x", vendor="amd", gpu_memory=191 * GIB),
    Machine(
        "amd-mixed",
        vendor="amd",
        gpus=3,
        gpu_memory=48 * GIB,
        labels={"amd.com/gpu.vram.48G": "1", "amd.com/gpu.vram.64G": "2"},
    ),
    Machine("cpu", vendor="none"),
)


@pytest.fixture(scope="module", autouse=True)
def machines(cluster: Cluster) -> Iterator[None]:
    """Beside gpu-24g, gpu-12g and gpu-6g: one of every other kind."""
    for machine in MACHINES:
        cluster.add_machine(machine)
    yield
    for machine in MACHINES:
        cluster.remove_machine(machine.name)


def on(machine: str) -> Object:
    """A template for one machine alone."""
    return {"nodeSelector": {"kubernetes.io/hostname": machine}}


PLACED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "NVIDIA by its labels": (
        {"gpu": {"memory": "24Gi"}},
        "gpu-24g",
        "24Gi",
        "ResourceSlice of gpu.nvidia.com",
    ),
    "NVIDIA by a claim": (
        {"gpu": {**CLAIM, "memory": "24Gi"}},
        "gpu-24g",
        "24Gi",
        "ResourceSlice of gpu.nvidia.com",
    ),
    "a DaemonSet's claims": (
        {"perNode": {}, "gpu": {**CLAIM, "memory": "12Gi"}, "template": on("gpu-12g")},
        "gpu-12g",
        "12Gi",
        "ResourceSlice of gpu.nvidia.com",
    ),
    "MIG": (
        {"gpu": {"resourceName": MIG, "memory": "9Gi"}},
        "a100-mig",
        "9728Mi",
        f"label {MIG}.memory",
    ),
    "MPS": (
        {"gpu": {"resourceName": SHARED, "memory": "10Gi"}},
        "l40-mps",
        "10Gi",
        "label nvidia.com/gpu.memory, shared by MPS",
    ),
    "AMD": (
        {"gpu": {"vendor": "amd", "memory": "192Gi"}},
        "mi300x",
        "191Gi",
        "label amd.com/gpu.vram",
    ),
    "AMD with different cards": (
        {"gpu": {"vendor": "amd", "memory": "40Gi"}, "template": on("amd-mixed")},
        "amd-mixed",
        "48Gi",
        "label amd.com/gpu.vram.48G, the smallest of its GPUs",
    ),
    "CPU": ({"template": on("cpu")}, "cpu", "8Gi", "spec.resources.limits.memory"),
}


def granted(fleet: Fleet, pod: Object) -> int:
    """Bytes of GPU memory that the emulated server was started with."""
    folder = fleet.cluster.directory / "pods" / f"{fleet.namespace}_{pod['metadata']['name']}"
    (pid,) = [path.read_text() for path in folder.glob("*.pid")]
    environment = Path(f"/proc/{int(pid)}/environ").read_text().split("\0")
    return int(dict(one.split("=", 1) for one in environment if one)["EMULATOR_GPU_MEMORY"])


@pytest.mark.parametrize("kind", PLACED)
def test_a_server_lands_where_its_memory_is_and_says_how_it_knows(fleet: Fleet, kind: str) -> None:
    spec, machine, memory, source = PLACED[kind]
    fleet.apply(ollama_node(**spec))
    status = fleet.ready(OLLAMA_NODE, "a")["status"]
    (server,) = status["servers"]
    assert (server["kubernetesNode"], server["memoryTotal"]) == (machine, memory)
    assert server["memorySource"] == source
    assert status["memory"] == {"perServer": memory, "source": source}
    (pod,) = fleet.pods("a")
    assert granted(fleet, pod) == (0 if kind == "CPU" else bytes_of(memory))
    vendor = spec.get("gpu", {}).get("vendor")
    assert pod["spec"]["containers"][0]["image"].endswith("-rocm") == (vendor == "amd")


NOWHERE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "too much for any claim": (
        {"gpu": {**CLAIM, "memory": "80Gi"}},
        [
            "0 of 3 GPU machines have a GPU with 80 GiB free",
            "gpu-6g is too small (6 GiB)",
            "gpu-24g is too small (24 GiB)",
            "Lower spec.gpu.memory",
        ],
    ),
    "a class nobody made": (
        {"gpu": {**CLAIM, "deviceClassName": "mig.nvidia.com"}},
        ["there is no DeviceClass mig.nvidia.com", "spec.gpu.deviceClassName"],
    ),
    "no driver of that vendor": (
        {"gpu": {**CLAIM, "vendor": "amd", "deviceClassName": "gpu.nvidia.com", "memory": "1Gi"}},
        ["no machine publishes a GPU of gpu.amd.com", "DRA driver"],
    ),
    "too much for a slice": (
        {"gpu": {"resourceName": MIG, "memory": "20Gi"}},
        ["0 of 1 GPU machines", "a100-mig is too small (9.5 GiB)"],
    ),
    "too much for a share": (
        {"gpu": {"resourceName": SHARED, "memory": "12Gi"}},
        ["0 of 1 GPU machines", "l40-mps is too small (10 GiB)"],
    ),
    "too much for one of different cards": (
        {"gpu": {"vendor": "amd", "memory": "64Gi"}, "template": on("amd-mixed")},
        ["amd-mixed is too small (48 GiB)"],
    ),
}


@pytest.mark.parametrize("why", NOWHERE)
def test_what_fits_nowhere_stays_pending_and_says_why(fleet: Fleet, why: str) -> None:
    spec, words = NOWHERE[why]
    fleet.apply(ollama_node(**spec))
    message = fleet.stalls(OLLAMA_NODE, "a", "Unschedulable")
    for word in words:
        assert word in message
    (pod,) = fleet.pods("a")
    assert not pod["spec"].get("nodeName")


def test_a_claimed_gpu_is_nobody_elses_until_it_is_given_back(fleet: Fleet) -> None:
    gpu = {**CLAIM, "memory": "20Gi"}
    fleet.apply(ollama_node("first", gpu=gpu))
    fleet.ready(OLLAMA_NODE, "first")
    (claim,) = fleet.all(RESOURCE_CLAIM)
    (device,) = claim["status"]["allocation"]["devices"]["results"]
    assert (device["pool"], device["device"]) == ("gpu-24g", "gpu-0")
    (pod,) = fleet.pods("first")
    assert "nvidia.com/gpu" not in pod["spec"]["containers"][0]["resources"].get("limits", {})

    fleet.apply(ollama_node("second", gpu=gpu))
    message = fleet.stalls(OLLAMA_NODE, "second", "Unschedulable")
    assert f"gpu-24g is taken by {fleet.namespace}/first-0" in message
    assert "gpu-12g is too small (12 GiB)" in message
    fleet.delete(OLLAMA_NODE, "first")
    fleet.ready(OLLAMA_NODE, "second", within=90)


def test_another_request_is_another_template_and_the_old_one_goes(fleet: Fleet) -> None:
    def templates() -> set[str]:
        return {one["metadata"]["name"] for one in fleet.all(RESOURCE_CLAIM_TEMPLATE)}

    fleet.apply(ollama_node(gpu={**CLAIM, "memory": "20Gi"}))
    fleet.ready(OLLAMA_NODE, "a")
    (first,) = templates()

    fleet.patch(OLLAMA_NODE, "a", {"spec": {"gpu": {"memory": "5Gi"}, "template": on("gpu-6g")}})
    eventually("the old template is gone", lambda: len(templates() - {first}) == len(templates()))
    (second,) = templates()
    assert second != first
    assert fleet.ready(OLLAMA_NODE, "a")["status"]["memory"]["perServer"] == "6Gi"

    fleet.patch(OLLAMA_NODE, "a", {"spec": {"gpu": {"allocation": "DevicePlugin"}}})
    eventually("no template is left", lambda: not templates())
    fleet.ready(OLLAMA_NODE, "a")
    workload = fleet.get(STATEFUL_SET, "a")
    assert workload is not None
    pod = workload["spec"]["template"]["spec"]
    assert "resourceClaims" not in pod
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "claims" not in pod["containers"][0]["resources"]
