"""Where server pods may go: GPUs with enough memory, and the taints of GPU machines."""

from typing import Any

from ollama_fleet.api.model import Toleration
from ollama_fleet.api.ollamanode import Gpu, OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.memory import TOLERANCE, VRAM, label_name
from ollama_fleet.plan.result import Object

Term = dict[str, Any]
Requirement = dict[str, Any]

AMD_SIZES = (
    *(0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24),
    *(32, 36, 48, 64, 96, 128, 192, 256, 288, 384, 432),
)
"""GiB of VRAM that a card of a mixed machine has a label for, those inside processors included."""

SHARES = range(2, 17)
"""Into how many shares MPS may divide a card that still has enough memory in each."""
_LARGEST = 512 * 2**30


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


def tolerations(spec: OllamaNodeSpec) -> list[Object]:
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
    """Terms of which one must hold; none where any machine will do.

    A claim finds its machine by itself. A DaemonSet does not look for one: without terms it
    would leave pending pods on machines that have no such GPU.
    """
    gpu = spec.gpu
    by_claim = gpu.allocation == "ResourceClaim" and spec.per_node is None
    if gpu.vendor == "none" or by_claim:
        return []
    if gpu.memory is not None:
        least = int(bytes_of(gpu.memory) * TOLERANCE)
        return _amd_terms(least) if gpu.vendor == "amd" else _nvidia_terms(gpu, least)
    if spec.per_node is None:
        return []
    if gpu.vendor == "amd":
        return _amd_terms(0)
    return [_term(_exists(f"{label_name(gpu)}.count"), *_whole(gpu))]


def _nvidia_terms(gpu: Gpu, least: int) -> list[Term]:
    """Feature discovery tells the memory of the whole card, of which MPS gives each a share."""
    name = label_name(gpu)
    if gpu.allocation == "ResourceClaim" or name.startswith("nvidia.com/mig-"):
        return [_term(_above(f"{name}.memory", least // 2**20), *_whole(gpu))]
    strategy = f"{name}.sharing-strategy"
    terms = [
        _term(
            _above(f"{name}.memory", least // 2**20),
            {"key": strategy, "operator": "NotIn", "values": ["mps"]},
            *_whole(gpu),
        )
    ]
    if gpu.resource != name:
        terms += [
            _term(
                _above(f"{name}.memory", least * shares // 2**20),
                {"key": strategy, "operator": "In", "values": ["mps"]},
                {"key": f"{name}.replicas", "operator": "In", "values": [str(shares)]},
            )
            for shares in SHARES
            if least * shares <= _LARGEST
        ]
    return terms


def _whole(gpu: Gpu) -> list[Requirement]:
    """That a machine has whole cards to give: one that has them all divided by MIG labels its cards
    as well, and says of them that it offers each 0 times."""
    if label_name(gpu) != "nvidia.com/gpu" or gpu.device_class != gpu.driver:
        return []
    return [{"key": "nvidia.com/gpu.replicas", "operator": "NotIn", "values": ["0"]}]


def _amd_terms(least: int) -> list[Term]:
    """One label where all cards are alike; on mixed machines one for each size.

    The label is text: what is too small is listed, as a card may report any size, such as 191G for
    192 GiB. Nobody can choose among the cards of a machine, so even its smallest must do.
    """
    lowest = -(-least // 2**30)
    enough = [gib for gib in AMD_SIZES if gib >= lowest] or [lowest]
    small = [f"{gib}G" for gib in range(lowest)]
    alike = [
        _exists(VRAM),
        *([{"key": VRAM, "operator": "NotIn", "values": small}] if small else ()),
    ]
    absent = [
        {"key": f"{VRAM}.{gib}G", "operator": "DoesNotExist"} for gib in AMD_SIZES if gib < lowest
    ]
    return [_term(*alike), *(_term(_exists(f"{VRAM}.{gib}G"), *absent) for gib in enough)]


def _term(*requirements: Requirement) -> Term:
    return {"matchExpressions": list(requirements)}


def _exists(label: str) -> Requirement:
    return {"key": label, "operator": "Exists"}


def _above(label: str, mebibytes: int) -> Requirement:
    return {"key": label, "operator": "Gt", "values": [str(mebibytes - 1)]}
