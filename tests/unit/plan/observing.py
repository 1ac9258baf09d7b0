"""What is seen of an OllamaNode, to plan over."""

from typing import Any

from ollama_fleet.plan.observed import Observed
from tests.unit.plan.objects import Object, machine, pod, probe

URL = "http://10.0.0.1:11434"
MACHINES = {"gpu-a": machine("gpu-a")}


def observe(workload: Object | None = None, *pods: Object, probes: Any = None) -> Observed:
    return Observed(workload, pods, MACHINES, {URL: probe()} if probes is None else probes)


def stateful(updated: int = 1) -> Object:
    return {"spec": {}, "status": {"updatedReplicas": updated}}


def conditions(status: Any) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def unscheduled(said: str, only: str | None = None, name: str = "a-0") -> Object:
    """A pod that no machine has taken; with ``only``, one that a DaemonSet made for that one."""
    waiting = pod(name, on=None, ready=False)
    if only is not None:
        field = {"key": "metadata.name", "operator": "In", "values": [only]}
        required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
        waiting["spec"]["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
        }
    waiting["status"] = {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": said,
            }
        ],
    }
    return waiting
