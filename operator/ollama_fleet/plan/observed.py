"""What the cluster shows of one OllamaNode."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.demands import Demand
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.disk import Disks
from ollama_fleet.plan.drain import Report
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.servers import Probe
from ollama_fleet.plan.stores import Neighbour
from ollama_fleet.plan.usage import Usage
from ollama_fleet.plan.volumes import Volumes


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
    usage: Mapping[str, Usage] = field(default_factory=dict)
    """By the name of the pod; none where the cluster has no metrics."""
    disks: Disks = field(default_factory=Disks)
    claim_templates: tuple[Object, ...] = ()
    """What claims for its GPUs were ever made from."""
    named: frozenset[str] | None = None
    """Models that ModelDistributions want on its servers; None: not looked up."""
    demands: tuple[Demand, ...] = ()
    """What ModelDistributions of its namespace want."""
    unloaded: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Why models would not load again, by URL and model, after some attempts."""
    routers: tuple[Report | None, ...] = ()
    """What routers say of its servers, read while some are on their way out."""
    active: Mapping[str, int] | None = None
    """Requests under way by URL, as routers last told; None: nobody counts them."""
    wedged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Models that servers do not answer with any more, by URL, as routers last told."""
    volumes: Volumes = field(default_factory=Volumes)
    neighbours: tuple[Neighbour, ...] = ()
    """Those that could write where this one does."""
    events: tuple[Object, ...] = ()
    """About the workload, where it lacks pods."""
    operator_namespace: str = "default"
    """Where the operator runs."""


def wanted(spec: OllamaNodeSpec, workload: Object | None) -> int:
    """How many servers there should be."""
    if spec.external is not None:
        return 1
    if spec.replicas is not None:
        return spec.replicas
    return int(((workload or {}).get("status") or {}).get("desiredNumberScheduled", 0))
