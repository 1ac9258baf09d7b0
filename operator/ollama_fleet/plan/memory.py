"""How much memory a server has for models, and how that is known."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ollama_fleet.api.ollamanode import Gpu, OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.devices import Device, Devices
from ollama_fleet.plan.result import Object

TOLERANCE = 0.97
"""Cards report a little less than their name: 97 % of a wanted size counts as having it."""

VRAM = "amd.com/gpu.vram"
_MIXED = re.compile(re.escape(VRAM) + r"\.([0-9]+)G")
_SMALLEST = ", the smallest of its GPUs"
_SHARING = ("mps", "time-slicing")


@dataclass(frozen=True)
class Memory:
    """Bytes for models on one server; ``size`` is None where nobody says."""

    size: int | None
    source: str
    gpu: str | None = None


def enough(size: int, wanted: int) -> bool:
    """Whether ``size`` bytes count as ``wanted``: a "16 GB" card is one."""
    return size >= wanted * TOLERANCE


def server_memory(
    spec: OllamaNodeSpec,
    kubernetes_node: Object | None,
    pod: Object | None = None,
    devices: Devices | None = None,
) -> Memory:
    """The memory of one server: from ResourceSlices, then its machine's labels, then the spec.

    For several GPUs it is their sum, as Ollama spreads a model over them. A time-sliced GPU is
    counted whole (sharing gives no isolation), an MPS-shared one divided by its replicas. Several
    shared ones count once: nobody says that they are not the same card.
    """
    gpu = spec.gpu
    if gpu.vendor == "none" and spec.external is None:
        return _cpu_memory(spec)
    known = devices or Devices()
    held = known.of_pod(pod) if pod else ()
    if (allocated := _allocated(held)) is not None:
        return allocated
    meta = (kubernetes_node or {}).get("metadata", {})
    labels: Mapping[str, str] = meta.get("labels") or {}
    product = labels.get("nvidia.com/gpu.product") or labels.get("amd.com/gpu.product-name")
    if gpu.allocation == "ResourceClaim" and gpu.device_class != gpu.driver:
        # the machine's labels tell of whole cards, this class perhaps of slices
        per_gpu, source = None, "unknown: no ResourceSlice tells it; set gpu.memory"
    else:
        published = known.on(meta.get("name", ""), gpu.driver)
        per_gpu, source = _published(gpu, published, labels) or _labelled(gpu, labels)
    if per_gpu is None and gpu.memory is not None:
        per_gpu, source = bytes_of(gpu.memory), "spec.gpu.memory"
    if per_gpu is None and pod is not None and kubernetes_node is None:
        source = "unknown until its pod is on a machine"
    if per_gpu is None:
        return Memory(None, source, product)
    shared = labels.get(f"{label_name(gpu)}.sharing-strategy") in _SHARING
    return Memory(per_gpu * (1 if shared else gpu.count), source, product)


def _cpu_memory(spec: OllamaNodeSpec) -> Memory:
    limit = (spec.resources.limits or {}).get("memory")
    if limit is None:
        return Memory(None, "unknown: set resources.limits.memory")
    return Memory(bytes_of(limit), "spec.resources.limits.memory")


def _allocated(held: tuple[Device | None, ...]) -> Memory | None:
    """The sum of the devices of the pod's claim, where each tells its memory."""
    found = [device for device in held if device is not None and device.memory is not None]
    if not found or len(found) < len(held):
        return None
    first = found[0]
    total = sum(device.memory or 0 for device in found)
    return Memory(total, f"ResourceSlice of {first.driver}", first.product)


def _published(
    gpu: Gpu, devices: list[Device], labels: Mapping[str, str]
) -> tuple[int, str] | None:
    """Memory of a whole card, from what its driver publishes of the machine."""
    if label_name(gpu) != f"{gpu.vendor}.com/gpu" or _partitioned(labels):
        return None
    sizes = [device.memory for device in devices if device.type != "mig"]
    known = [size for size in sizes if size is not None]
    if not known or len(known) < len(sizes):
        return None
    source = f"ResourceSlice of {gpu.driver}"
    if min(known) != max(known):
        source += _SMALLEST
    return _shared(gpu, min(known), source, labels)


def _labelled(gpu: Gpu, labels: Mapping[str, str]) -> tuple[int | None, str]:
    if gpu.vendor == "amd":
        return _amd(labels)
    name = label_name(gpu)
    mebibytes = labels.get(f"{name}.memory", "")
    if not mebibytes.isdigit():
        return None, f"unknown: no label {name}.memory; set gpu.memory"
    return _shared(gpu, int(mebibytes) * 2**20, f"label {name}.memory", labels)


def _amd(labels: Mapping[str, str]) -> tuple[int | None, str]:
    if vram := labels.get(VRAM):
        # the labeller writes 192G for 192 GiB
        return bytes_of(vram.removesuffix("iB").removesuffix("i") + "i"), f"label {VRAM}"
    sizes = [int(found[1]) for label in labels if (found := _MIXED.fullmatch(label))]
    if not sizes:
        return None, f"unknown: no label {VRAM}; set gpu.memory"
    source = f"label {VRAM}.{min(sizes)}G"
    return min(sizes) * 2**30, source + (_SMALLEST if len(sizes) > 1 else "")


def _shared(gpu: Gpu, size: int, source: str, labels: Mapping[str, str]) -> tuple[int, str]:
    """What one of those who share the card may count on."""
    name = label_name(gpu)
    replicas = labels.get(f"{name}.replicas", "1")
    strategy = labels.get(f"{name}.sharing-strategy")
    if strategy == "mps" and replicas.isdigit():
        return size // max(1, int(replicas)), f"{source}, shared by MPS"
    if strategy == "time-slicing":
        return size, f"{source}, time-sliced and not isolated"
    return size, source


def label_name(gpu: Gpu) -> str:
    """What the labels about a resource begin with; a shared one keeps those of the original."""
    if gpu.resource.startswith("nvidia.com/mig-"):
        return gpu.resource.removesuffix(".shared")
    return f"{gpu.vendor}.com/gpu"


def _partitioned(labels: Mapping[str, str]) -> bool:
    """Whether nvidia.com/gpu means slices of cards here: the MIG strategy ``single``."""
    return "-MIG-" in labels.get("nvidia.com/gpu.product", "")
