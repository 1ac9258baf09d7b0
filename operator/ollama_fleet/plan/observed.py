"""What the cluster shows of one OllamaNode."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.servers import Probe


@dataclass(frozen=True)
class Observed:
    """What the cluster shows of one OllamaNode."""

    workload: Object | None
    """The StatefulSet or DaemonSet, where there is one."""
    pods: tuple[Object, ...]
    kubernetes_nodes: Mapping[str, Object]
    probes: Mapping[str, Probe]
    """By URL."""
    rivals: tuple[Object, ...] = ()
    """Pods that may hold the GPUs this one's wait for."""
    devices: Devices = field(default_factory=Devices)
    claim_templates: tuple[Object, ...] = ()
    """What claims for its GPUs were ever made from."""


def wanted(spec: OllamaNodeSpec, workload: Object | None) -> int:
    """How many servers there should be."""
    if spec.external is not None:
        return 1
    if spec.replicas is not None:
        return spec.replicas
    return int(((workload or {}).get("status") or {}).get("desiredNumberScheduled", 0))


def updated(spec: OllamaNodeSpec, workload: Object | None, ready: int) -> int:
    """How many servers run what the newest spec says."""
    if spec.external is not None:
        return ready
    status = (workload or {}).get("status") or {}
    return int(status.get("updatedReplicas", status.get("updatedNumberScheduled", 0)))
