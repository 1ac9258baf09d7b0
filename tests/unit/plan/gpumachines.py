"""Machines as GPU Feature Discovery and AMD's labeller describe them."""

from tests.unit.plan.objects import Object


def nvidia(
    product: str,
    memory: int,
    count: int = 1,
    replicas: int = 1,
    sharing: str = "none",
    mig: str = "single",
) -> dict[str, str]:
    """``memory`` is in MiB per card, as NVML tells it."""
    return {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.memory": str(memory),
        "nvidia.com/gpu.replicas": str(replicas),
        "nvidia.com/gpu.sharing-strategy": sharing,
        "nvidia.com/mig.strategy": mig,
    }


def mig(parent: str, card: int, **profiles: tuple[int, int]) -> dict[str, str]:
    """Strategy ``mixed``: count and MiB of each profile, named like ``p1g_10gb``.

    The card itself keeps its labels, and is there 0 times.
    """
    labels = nvidia(parent, card, replicas=0, mig="mixed")
    for name, (count, memory) in profiles.items():
        profile = name.removeprefix("p").replace("_", ".")
        prefix = f"nvidia.com/mig-{profile}"
        labels |= {
            f"{prefix}.product": f"{parent}-MIG-{profile}",
            f"{prefix}.count": str(count),
            f"{prefix}.memory": str(memory),
            f"{prefix}.replicas": "1",
            f"{prefix}.sharing-strategy": "none",
        }
    return labels


def amd(vram: str, count: int, family: str, device: str, units: int) -> dict[str, str]:
    """``count`` cards that are alike, with all that the labeller says of them."""
    told = {
        "cu-count": str(units),
        "device-id": device,
        "family": family,
        "simd-count": str(4 * units),
        "vram": vram,
    }
    labels = {"amd.com/gpu.driver-version": "6.12.12"}
    for name, value in told.items():
        labels |= {
            f"amd.com/gpu.{name}": value,
            f"beta.amd.com/gpu.{name}": value,
            f"beta.amd.com/gpu.{name}.{value}": str(count),
        }
    return labels


LABELS = {
    "t4": nvidia("Tesla-T4", 15360),
    "a10": nvidia("NVIDIA-A10", 23028),
    "l4": nvidia("NVIDIA-L4", 23034),
    "rtx4090": nvidia("NVIDIA-GeForce-RTX-4090", 24564, count=2),
    "a100-40": nvidia("NVIDIA-A100-SXM4-40GB", 40960, count=8),
    "a100-80": nvidia("NVIDIA-A100-SXM4-80GB", 81920, count=8),
    "a100-40-mig": mig(
        "NVIDIA-A100-SXM4-40GB", 40960, p1g_5gb=(2, 4864), p2g_10gb=(1, 9856), p3g_20gb=(1, 19968)
    ),
    "a100-80-mig": mig("NVIDIA-A100-SXM4-80GB", 81920, p1g_10gb=(4, 9728), p3g_40gb=(1, 40192)),
    "a100-single-mig": nvidia("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", 4864, count=7),
    "h100": nvidia("NVIDIA-H100-80GB-HBM3", 81559, count=8),
    "h200": nvidia("NVIDIA-H200", 143771, count=8),
    "l4-sliced": nvidia("NVIDIA-L4-SHARED", 23034, replicas=4, sharing="time-slicing"),
    "l40-mps": nvidia("NVIDIA-L40S-SHARED", 46068, replicas=4, sharing="mps"),
    "mi300x": {"amd.com/gpu.vram": "192G", "amd.com/gpu.family": "AI"},
    "mi300x-vf": amd("191G", count=8, family="AI", device="74b5", units=304),
    "amd-mixed": {"amd.com/gpu.vram.64G": "2", "amd.com/gpu.vram.16G": "1"},
    "amd-alike": {"amd.com/gpu.vram.64G": "2"},
    # a processor that has a small one inside
    "amd-desktop": {"amd.com/gpu.vram.1G": "1", "amd.com/gpu.vram.24G": "1"},
    "unlabelled": {},
    "cpu": {"kubernetes.io/arch": "amd64"},
}


def machine(name: str) -> Object:
    """The Kubernetes node."""
    labels = {"kubernetes.io/hostname": name, **LABELS[name]}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {}}


def accepts(affinity: Object, labels: dict[str, str]) -> bool:
    """Whether a machine fits a pod's required node affinity, as the scheduler reads it."""
    required = affinity.get("nodeAffinity", {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required is None:
        return True
    return any(
        all(_holds(one, labels) for one in term["matchExpressions"])
        for term in required["nodeSelectorTerms"]
    )


def _holds(requirement: Object, labels: dict[str, str]) -> bool:
    value, values = labels.get(requirement["key"]), requirement.get("values", [])
    match requirement["operator"]:
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Gt":
            return value is not None and value.isdigit() and int(value) > int(values[0])
    raise AssertionError(requirement)


def published(name: str, *sizes: str | None, driver: str = "gpu.nvidia.com", **more: str) -> Object:
    """A ResourceSlice of one machine: a GPU for each size; None tells no memory."""
    attributes = {"type": {"string": more.get("type", "gpu")}, "productName": {"string": "X1"}}
    return {
        "metadata": {"name": f"{name}-{driver}"},
        "spec": {
            "driver": driver,
            "nodeName": name,
            "pool": {"name": name, "generation": int(more.get("generation", "1"))},
            "devices": [
                {
                    "name": f"gpu-{number}",
                    "attributes": attributes,
                    "capacity": {} if size is None else {"memory": {"value": size}},
                }
                for number, size in enumerate(sizes)
            ],
        },
    }


def claim(name: str, *devices: tuple[str, str], pod: str = "a-0", **result: object) -> Object:
    """An allocated ResourceClaim: pool and device of each result."""
    results = [
        {"request": "gpu", "driver": "gpu.nvidia.com", "pool": pool, "device": device, **result}
        for pool, device in devices
    ]
    return {
        "metadata": {"name": name, "namespace": "llm"},
        "status": {
            "allocation": {"devices": {"results": results}},
            "reservedFor": [{"resource": "pods", "name": pod, "uid": "u"}],
        },
    }
