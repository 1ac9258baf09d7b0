"""How much memory a server has for models, and how that is known."""

from collections.abc import Mapping
from dataclasses import dataclass

from ollama_fleet.api.ollamanode import Gpu, OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.result import Object

TOLERANCE = 0.97
"""Cards report a little less than their name: 97 % of a wanted size counts as having it."""


@dataclass(frozen=True)
class Memory:
    """Bytes for models on one server; ``size`` is None where nobody says."""

    size: int | None
    source: str
    gpu: str | None = None


def enough(size: int, wanted: int) -> bool:
    """Whether ``size`` bytes count as ``wanted``: a "16 GB" card is one."""
    return size >= wanted * TOLERANCE


def server_memory(spec: OllamaNodeSpec, kubernetes_node: Object | None) -> Memory:
    """The memory of one server: from its machine's labels, then from the spec.

    For several GPUs it is their sum, as Ollama spreads a model over them. A time-sliced GPU is
    counted whole (sharing gives no isolation), an MPS-shared one divided by its replicas.
    """
    gpu = spec.gpu
    if gpu.vendor == "none" and spec.external is None:
        return _cpu_memory(spec)
    labels = (kubernetes_node or {}).get("metadata", {}).get("labels") or {}
    per_gpu, source = _labelled(gpu, labels)
    product = labels.get("nvidia.com/gpu.product") or labels.get("amd.com/gpu.product-name")
    if per_gpu is None and gpu.memory is not None:
        per_gpu, source = bytes_of(gpu.memory), "spec.gpu.memory"
    if per_gpu is None:
        return Memory(None, source, product)
    return Memory(per_gpu * gpu.count, source, product)


def _cpu_memory(spec: OllamaNodeSpec) -> Memory:
    limit = (spec.resources.limits or {}).get("memory")
    if limit is None:
        return Memory(None, "unknown: set resources.limits.memory")
    return Memory(bytes_of(limit), "spec.resources.limits.memory")


def _labelled(gpu: Gpu, labels: Mapping[str, str]) -> tuple[int | None, str]:
    if gpu.vendor == "amd":
        vram = labels.get("amd.com/gpu.vram")
        if vram:
            # the labeller writes 192G for 192 GiB
            return bytes_of(vram.removesuffix("iB").removesuffix("i") + "i"), (
                "label amd.com/gpu.vram"
            )
        return None, "unknown: no label amd.com/gpu.vram; set gpu.memory"
    name = "nvidia.com/gpu"
    if gpu.resource.startswith("nvidia.com/mig-"):
        name = gpu.resource
    mebibytes = labels.get(f"{name}.memory", "")
    if not mebibytes.isdigit():
        return None, f"unknown: no label {name}.memory; set gpu.memory"
    size = int(mebibytes) * 2**20
    replicas = labels.get("nvidia.com/gpu.replicas", "1")
    if labels.get("nvidia.com/gpu.sharing-strategy") == "mps" and replicas.isdigit():
        return size // max(1, int(replicas)), f"label {name}.memory, shared by MPS"
    return size, f"label {name}.memory"
