import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.memory import enough, server_memory
from tests.unit.plan.objects import GIB, machine

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
