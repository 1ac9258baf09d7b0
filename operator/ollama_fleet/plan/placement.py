"""Where server pods may go: GPUs with enough memory, and the taints of GPU machines."""

from typing import Any

from ollama_fleet.api.model import Toleration
from ollama_fleet.api.ollamanode import Gpu, OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.memory import TOLERANCE

Term = dict[str, Any]
Requirement = dict[str, Any]

AMD_SIZES = (8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 288, 384)
"""GiB of VRAM that AMD's labeller may report; its label is text, so they are listed."""


def affinity(spec: OllamaNodeSpec) -> dict[str, Any]:
    """The template's affinity, narrowed to machines whose GPUs are large enough."""
    wanted = dict(spec.template.affinity or {})
    ours = _gpu_terms(spec)
    if not ours:
        return wanted
    node = dict(wanted.get("nodeAffinity") or {})
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    theirs = (node.get(required) or {}).get("nodeSelectorTerms") or [{}]
    node[required] = {"nodeSelectorTerms": [_both(one, two) for one in theirs for two in ours]}
    return {**wanted, "nodeAffinity": node}


def tolerations(spec: OllamaNodeSpec) -> list[dict[str, Any]]:
    """The template's tolerations, and the taint that GPU machines usually carry."""
    made = [one.wire() for one in spec.template.tolerations or []]
    if spec.gpu.vendor != "none":
        vendor = Toleration(
            key=f"{spec.gpu.vendor}.com/gpu", operator="Exists", effect="NoSchedule"
        )
        if vendor.wire() not in made:
            made.append(vendor.wire())
    return made


def _both(one: Term, two: Term) -> Term:
    merged = {**one}
    merged["matchExpressions"] = [*one.get("matchExpressions", ()), *two["matchExpressions"]]
    return merged


def _gpu_terms(spec: OllamaNodeSpec) -> list[Term]:
    """Terms of which one must hold; none where any machine will do."""
    gpu = spec.gpu
    if gpu.vendor == "none":
        return []
    if gpu.memory is not None:
        return [{"matchExpressions": [_at_least(gpu, bytes_of(gpu.memory))]}]
    if spec.per_node is None:
        return []
    # a DaemonSet ignores what a machine can allocate: without this it would leave pending
    # pods on machines that have no GPU
    present = {
        "nvidia": [{"key": "nvidia.com/gpu.count", "operator": "Exists"}],
        "amd": [{"key": "amd.com/gpu.vram", "operator": "Exists"}],
    }
    return [{"matchExpressions": present[gpu.vendor]}]


def _at_least(gpu: Gpu, size: int) -> Requirement:
    least = size * TOLERANCE
    if gpu.vendor == "amd":
        values = [f"{gib}G" for gib in AMD_SIZES if gib * 2**30 >= least]
        return {"key": "amd.com/gpu.vram", "operator": "In", "values": values}
    name = gpu.resource if gpu.resource.startswith("nvidia.com/mig-") else "nvidia.com/gpu"
    return {"key": f"{name}.memory", "operator": "Gt", "values": [str(int(least / 2**20) - 1)]}
