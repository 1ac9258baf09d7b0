import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.memory import enough, server_memory
from tests.unit.plan.gpumachines import claim, published
from tests.unit.plan.gpumachines import machine as real
from tests.unit.plan.objects import GIB, Object, machine, pod

NVIDIA = {"nvidia.com/gpu.memory": "24576"}
MIB = 2**20


@pytest.mark.parametrize(
    ("spec", "labels", "size", "source"),
    [
        ({"replicas": 1}, NVIDIA, 24 * GIB, "label nvidia.com/gpu.memory"),
        ({"replicas": 1, "gpu": {"count": 2}}, NVIDIA, 48 * GIB, "label nvidia.com/gpu.memory"),
        (
            {"replicas": 1},
            {
                **NVIDIA,
                "nvidia.com/gpu.replicas": "4",
                "nvidia.com/gpu.sharing-strategy": "time-slicing",
            },
            24 * GIB,
            "label nvidia.com/gpu.memory",
        ),
        (
            {"replicas": 1},
            {**NVIDIA, "nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "mps"},
            6 * GIB,
            "label nvidia.com/gpu.memory, shared by MPS",
        ),
        (
            {"replicas": 1, "gpu": {"resourceName": "nvidia.com/mig-1g.10gb"}},
            {**NVIDIA, "nvidia.com/mig-1g.10gb.memory": "9728"},
            9728 * MIB,
            "label nvidia.com/mig-1g.10gb.memory",
        ),
        (
            {"replicas": 1, "gpu": {"vendor": "amd"}},
            {"amd.com/gpu.vram": "192G"},
            192 * GIB,
            "label amd.com/gpu.vram",
        ),
        ({"replicas": 1, "gpu": {"memory": "16Gi"}}, {}, 16 * GIB, "spec.gpu.memory"),
        ({"replicas": 1, "gpu": {"memory": "16Gi"}}, NVIDIA, 24 * GIB, "label nvidia.com/gpu.mem"),
        ({"replicas": 1}, {}, None, "unknown: no label nvidia.com/gpu.memory; set gpu.memory"),
        (
            {"replicas": 1, "gpu": {"vendor": "none"}, "resources": {"limits": {"memory": "8Gi"}}},
            NVIDIA,
            8 * GIB,
            "spec.resources.limits.memory",
        ),
        ({"replicas": 1, "gpu": {"vendor": "none"}}, {}, None, "unknown: set resources.limits"),
        (
            {"external": {"url": "http://x:11434"}, "gpu": {"memory": "12G"}},
            {},
            12_000_000_000,
            "spec.gpu.memory",
        ),
    ],
)
def test_memory_comes_from_labels_then_the_spec(
    spec: dict[str, object], labels: dict[str, str], size: int | None, source: str
) -> None:
    memory = server_memory(OllamaNodeSpec.model_validate(spec), machine("m", None, **labels))
    assert memory.size == size
    assert memory.source.startswith(source)


MIG = "nvidia.com/mig-1g.10gb"
NVIDIA_LABEL = "label nvidia.com/gpu.memory"


@pytest.mark.parametrize(
    ("name", "gpu", "mebibytes", "source"),
    [
        ("t4", {}, 15360, NVIDIA_LABEL),
        ("a10", {}, 23028, NVIDIA_LABEL),
        ("l4", {"memory": "16Gi"}, 23034, NVIDIA_LABEL),
        ("rtx4090", {"count": 2}, 2 * 24564, NVIDIA_LABEL),
        ("a100-40", {}, 40960, NVIDIA_LABEL),
        ("a100-80", {"count": 8}, 8 * 81920, NVIDIA_LABEL),
        ("h100", {}, 81559, NVIDIA_LABEL),
        ("h200", {}, 143771, NVIDIA_LABEL),
        ("a100-80-mig", {"resourceName": MIG}, 9728, f"label {MIG}.memory"),
        ("a100-80-mig", {"resourceName": f"{MIG}.shared"}, 9728, f"label {MIG}.memory"),
        (
            "a100-40-mig",
            {"resourceName": MIG},
            None,
            f"unknown: no label {MIG}.memory; set gpu.memory",
        ),
        ("a100-single-mig", {}, 4864, NVIDIA_LABEL),
        ("l4-sliced", {}, 23034, f"{NVIDIA_LABEL}, time-sliced and not isolated"),
        ("l4-sliced", {"count": 2}, 23034, f"{NVIDIA_LABEL}, time-sliced and not isolated"),
        ("l40-mps", {}, 11517, f"{NVIDIA_LABEL}, shared by MPS"),
        ("l40-mps", {"resourceName": "nvidia.com/gpu.shared"}, 11517, f"{NVIDIA_LABEL}, shared by"),
        ("mi300x", {"vendor": "amd"}, 196608, "label amd.com/gpu.vram"),
        ("mi300x-vf", {"vendor": "amd"}, 191 * 1024, "label amd.com/gpu.vram"),
        ("amd-alike", {"vendor": "amd"}, 65536, "label amd.com/gpu.vram.64G"),
        (
            "amd-mixed",
            {"vendor": "amd", "count": 2},
            32768,
            "label amd.com/gpu.vram.16G, the smallest of its GPUs",
        ),
        ("unlabelled", {}, None, "unknown: no label nvidia.com/gpu.memory; set gpu.memory"),
        ("unlabelled", {"vendor": "amd"}, None, "unknown: no label amd.com/gpu.vram; set gpu.mem"),
        ("unlabelled", {"memory": "24Gi"}, 24576, "spec.gpu.memory"),
    ],
)
def test_real_machines_tell_their_memory_by_labels(
    name: str, gpu: Object, mebibytes: int | None, source: str
) -> None:
    spec = OllamaNodeSpec.model_validate({"replicas": 1, "gpu": gpu})
    memory = server_memory(spec, real(name), pod("a-0", on=name), Devices())
    assert memory.size == (None if mebibytes is None else mebibytes * MIB)
    assert memory.source.startswith(source)


SLICE = "ResourceSlice of gpu.nvidia.com"
CLAIMED = {"allocation": "ResourceClaim"}


def holding(*claims: str) -> Object:
    made = [{"name": "gpu", "resourceClaimName": name} for name in claims]
    return pod("a-0", on="m", resourceClaimStatuses=made)


@pytest.mark.parametrize(
    ("gpu", "slices", "claims", "gib", "source"),
    [
        # the very device, however large its neighbours
        (CLAIMED, [published("m", "24Gi", "80Gi")], [claim("c", ("m", "gpu-1"))], 80, SLICE),
        (
            {**CLAIMED, "count": 2},
            [published("m", "24Gi", "80Gi")],
            [claim("c", ("m", "gpu-0"), ("m", "gpu-1"))],
            104,
            SLICE,
        ),
        # only so much of a device that several may have
        (
            CLAIMED,
            [published("m", "24Gi")],
            [claim("c", ("m", "gpu-0"), consumedCapacity={"memory": "6Gi"})],
            6,
            SLICE,
        ),
        # the newest generation of a pool
        (
            CLAIMED,
            [published("m", "24Gi"), published("m", "48Gi", generation="2")],
            [claim("c", ("m", "gpu-0"))],
            48,
            SLICE,
        ),
        # not another pod's claim, nor one that is not allocated
        (CLAIMED, [], [claim("other", ("m", "gpu-0"))], 16, "label nvidia.com/gpu.memory"),
        # a device that tells nothing
        (
            {**CLAIMED, "deviceClassName": "mig.nvidia.com"},
            [published("m", None)],
            [claim("c", ("m", "gpu-0"))],
            None,
            "unknown: no ResourceSlice tells it",
        ),
        (
            {**CLAIMED, "deviceClassName": "mig.nvidia.com", "memory": "9Gi"},
            [published("m", None)],
            [claim("c", ("m", "gpu-0"))],
            9,
            "spec.gpu.memory",
        ),
        # without a claim: whole cards of the machine, before its labels
        ({}, [published("m", "20Gi")], [], 20, SLICE),
        ({"count": 2}, [published("m", "20Gi", "20Gi")], [], 40, SLICE),
        ({}, [published("m", "20Gi", "80Gi")], [], 20, f"{SLICE}, the smallest of its GPUs"),
        ({}, [published("m", "20Gi", None)], [], 16, "label nvidia.com/gpu.memory"),
        ({}, [published("else", "20Gi")], [], 16, "label nvidia.com/gpu.memory"),
        ({}, [published("m", "5Gi", type="mig")], [], 16, "label nvidia.com/gpu.memory"),
        ({}, [published("m", "20Gi", driver="gpu.amd.com")], [], 16, "label nvidia.com/gpu.memory"),
        ({"resourceName": MIG}, [published("m", "20Gi")], [], None, f"unknown: no label {MIG}"),
        (
            {"vendor": "amd"},
            [published("m", "64Gi", driver="gpu.amd.com")],
            [],
            64,
            "ResourceSlice of gpu.amd.com",
        ),
    ],
)
def test_what_drivers_publish_comes_before_labels(
    gpu: Object, slices: list[Object], claims: list[Object], gib: int | None, source: str
) -> None:
    spec = OllamaNodeSpec.model_validate({"replicas": 1, "gpu": gpu})
    known = Devices.read(slices, claims)
    memory = server_memory(spec, machine("m", 16), holding("c"), known)
    assert memory.size == (None if gib is None else gib * GIB)
    assert memory.source.startswith(source)


def test_what_is_published_is_shared_as_the_labels_say() -> None:
    spec = OllamaNodeSpec.model_validate({"replicas": 1})
    known = Devices.read([published("l40-mps", "40Gi")], [])
    memory = server_memory(spec, real("l40-mps"), pod("a-0", on="l40-mps"), known)
    assert (memory.size, memory.source) == (10 * GIB, f"{SLICE}, shared by MPS")


def test_slices_of_a_card_are_not_taken_for_the_card() -> None:
    spec = OllamaNodeSpec.model_validate({"replicas": 1})
    known = Devices.read([published("a100-single-mig", "40Gi")], [])
    memory = server_memory(spec, real("a100-single-mig"), None, known)
    assert (memory.size, memory.source) == (4864 * MIB, NVIDIA_LABEL)


@pytest.mark.parametrize(
    ("size", "wanted", "counts"),
    [
        (16_000_000_000, 16_000_000_000, True),
        (15_600_000_000, 16_000_000_000, True),
        (15_500_000_000, 16_000_000_000, False),
        (0, 0, True),
    ],
)
def test_a_card_that_reports_a_little_less_counts(size: int, wanted: int, counts: bool) -> None:
    assert enough(size, wanted) is counts


def test_of_a_pod_without_a_machine_it_is_not_known_yet() -> None:
    waiting = pod("a-0", on=None)
    spec = OllamaNodeSpec.model_validate({"replicas": 1})
    assert server_memory(spec, None, waiting).source == "unknown until its pod is on a machine"
    told = OllamaNodeSpec.model_validate({"replicas": 1, "gpu": {"memory": "16Gi"}})
    assert server_memory(told, None, waiting).size == 16 * GIB
