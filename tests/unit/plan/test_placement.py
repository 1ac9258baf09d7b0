from typing import Any

import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.placement import affinity, tolerations
from ollama_fleet.plan.serverpod import pod_template
from tests.unit.plan.gpumachines import LABELS, accepts

MIG_5, MIG_10 = "nvidia.com/mig-1g.5gb", "nvidia.com/mig-1g.10gb"
SHARED = "nvidia.com/gpu.shared"
PER_NODE: dict[str, Any] = {"replicas": None, "perNode": {}}
# those that are divided by MIG altogether have no whole card
LARGE = {"a100-40", "a100-80", "h100", "h200"}
NVIDIA = LARGE | {"t4", "a10", "l4", "rtx4090", "a100-single-mig", "l4-sliced", "l40-mps"}
MIG = {"a100-40-mig", "a100-80-mig"}
MI300X = {"mi300x", "mi300x-vf"}


def node(gpu: dict[str, Any], **more: Any) -> OllamaNodeSpec:
    given = {"replicas": 1, "gpu": gpu, **more}
    return OllamaNodeSpec.model_validate({k: v for k, v in given.items() if v is not None})


@pytest.mark.parametrize(
    ("gpu", "more", "machines"),
    [
        # 24564 MiB of an RTX 4090 are 24 GiB, 23028 of an A10 are not, but they are 24 GB
        ({"memory": "24Gi"}, {}, LARGE | {"rtx4090"}),
        ({"memory": "24G"}, {}, LARGE | {"rtx4090", "a10", "l4", "l4-sliced"}),
        ({"memory": "16G"}, {}, NVIDIA - {"a100-single-mig", "l40-mps"}),
        ({"memory": "80Gi"}, {}, {"a100-80", "h100", "h200"}),
        ({"memory": "139Gi"}, {}, {"h200"}),
        ({"memory": "1Ti"}, {}, set()),
        # slices of a card
        ({"resourceName": MIG_10, "memory": "9Gi"}, {}, {"a100-80-mig"}),
        ({"resourceName": MIG_10, "memory": "10G"}, {}, {"a100-80-mig"}),
        ({"resourceName": MIG_10, "memory": "12Gi"}, {}, set()),
        ({"resourceName": MIG_5, "memory": "4Gi"}, {}, {"a100-40-mig"}),
        # a share of an L40S is 11.2 GiB
        ({"resourceName": SHARED, "memory": "11Gi"}, {}, NVIDIA - {"a100-single-mig"}),
        ({"resourceName": SHARED, "memory": "12Gi"}, {}, NVIDIA - {"a100-single-mig", "l40-mps"}),
        # AMD: alike, or different cards of which even the smallest must do
        ({"vendor": "amd", "memory": "192Gi"}, {}, MI300X),
        ({"vendor": "amd", "memory": "64G"}, {}, MI300X | {"amd-alike"}),
        ({"vendor": "amd", "memory": "16Gi"}, {}, MI300X | {"amd-alike", "amd-mixed"}),
        ({"vendor": "amd", "memory": "12Gi"}, {}, MI300X | {"amd-alike", "amd-mixed"}),
        (
            {"vendor": "amd", "memory": "1Gi"},
            {},
            MI300X | {"amd-alike", "amd-mixed", "amd-desktop"},
        ),
        ({"vendor": "amd", "memory": "2Ti"}, {}, set()),
        # nothing asked: the extended resource decides, but for DaemonSets
        ({}, {}, LABELS.keys()),
        ({"vendor": "none"}, {}, LABELS.keys()),
        ({}, PER_NODE, NVIDIA),
        ({"vendor": "amd"}, PER_NODE, MI300X | {"amd-alike", "amd-mixed", "amd-desktop"}),
        ({"resourceName": MIG_10}, PER_NODE, {"a100-80-mig"}),
        ({"vendor": "none"}, PER_NODE, LABELS.keys()),
        ({"memory": "80Gi"}, PER_NODE, {"a100-80", "h100", "h200"}),
        # a claim finds its machine by itself
        ({"memory": "80Gi", "allocation": "ResourceClaim"}, {}, LABELS.keys()),
        (
            {"memory": "80Gi", "allocation": "ResourceClaim"},
            PER_NODE,
            {"a100-80", "h100", "h200"},
        ),
        ({"allocation": "ResourceClaim"}, PER_NODE, NVIDIA),
        (
            {"allocation": "ResourceClaim", "deviceClassName": "mig.nvidia.com"},
            PER_NODE,
            NVIDIA | MIG,
        ),
    ],
)
def test_where_a_server_may_go(gpu: dict[str, Any], more: dict[str, Any], machines: Any) -> None:
    placed = affinity(node(gpu, **more))
    assert {name for name, labels in LABELS.items() if accepts(placed, labels)} == set(machines)


@pytest.mark.parametrize(
    ("gpu", "key", "limits", "rocm"),
    [
        ({}, "nvidia.com/gpu", {"nvidia.com/gpu": "1"}, False),
        ({"count": 4}, "nvidia.com/gpu", {"nvidia.com/gpu": "4"}, False),
        ({"resourceName": MIG_10}, "nvidia.com/gpu", {MIG_10: "1"}, False),
        ({"resourceName": SHARED}, "nvidia.com/gpu", {SHARED: "1"}, False),
        ({"vendor": "amd", "count": 2}, "amd.com/gpu", {"amd.com/gpu": "2"}, True),
        ({"allocation": "ResourceClaim"}, "nvidia.com/gpu", None, False),
        ({"vendor": "none"}, None, None, False),
    ],
)
def test_what_a_pod_asks_for(
    gpu: dict[str, Any], key: str | None, limits: dict[str, str] | None, rocm: bool
) -> None:
    spec = node(gpu)
    (container,) = pod_template(spec, {})["spec"]["containers"]
    assert container["resources"].get("limits") == limits
    assert container["image"].endswith("-rocm") == rocm
    assert [one["key"] for one in tolerations(spec)] == ([key] if key else [])


def test_every_wish_of_the_template_holds_beside_ours() -> None:
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [zone]}}
    for gpu in ({"memory": "16G"}, {"vendor": "amd", "memory": "16G"}):
        placed = affinity(node(gpu, template={"affinity": {"nodeAffinity": required}}))
        for name, labels in LABELS.items():
            alone = accepts(affinity(node(gpu)), labels)
            assert accepts(placed, {**labels, "zone": "a"}) == alone, name
            assert not accepts(placed, labels)
