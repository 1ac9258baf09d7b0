"""The fleet of a size: what is applied, and when all of it is as it is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice

from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER, Kind

NAMESPACE = "scale"
EVERYWHERE = "all-minilm"
"""The model of every server."""
ADDED = "qwen3:1.7b"
"""The model that is added to one ModelDistribution."""
ALL = "all"
"""The Router of all servers, and the ModelDistribution."""
_MODELS = (
    "llama3.2:1b", "llama3.2:3b", "llama3.1:8b", "qwen3:0.6b", "qwen3:4b", "qwen3:8b",
    "qwen3:14b", "mistral:7b", "gemma3:1b", "gemma3:4b", "gemma3:12b", "tinyllama",
)  # fmt: skip
OURS: tuple[Kind, ...] = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)


@dataclass(frozen=True)
class Size:
    """How many there are of each; a tenth of the Routers' groups share one."""

    servers: int
    nodes: int
    distributions: int
    routers: int

    def objects(self) -> list[Object]:
        """Everything that a user applies.

        One ModelDistribution and one Router are for all servers; every other ModelDistribution
        means one OllamaNode, and every other Router a group of them.
        """
        each = self.servers // self.nodes
        groups = max(1, self.routers - 1)
        made = [
            _made(
                OLLAMA_NODE,
                f"node-{number}",
                {
                    "replicas": each,
                    "gpu": {"vendor": "none"},
                    "storage": {"ephemeral": True},
                    "resources": {
                        "requests": {"cpu": "1m", "memory": "1Mi"},
                        "limits": {"memory": "64Gi"},
                    },
                },
                group=f"group-{number % groups}",
            )
            for number in range(self.nodes)
        ]
        everywhere = {"models": [{"name": EVERYWHERE}], "rollout": {"maxParallel": "10%"}}
        made.append(_made(MODEL_DISTRIBUTION, ALL, everywhere))
        models = cycle(_MODELS)
        for number in range(self.distributions - 1):
            two = [{"name": name} for name in islice(models, 2)]
            spec = {"models": two, "target": {"ollamaNodes": [f"node-{number % self.nodes}"]}}
            made.append(_made(MODEL_DISTRIBUTION, f"models-{number}", spec))
        made.append(_made(ROUTER, ALL, {}))
        for number in range(self.routers - 1):
            select = {"selector": {"matchLabels": {"group": f"group-{number}"}}}
            made.append(_made(ROUTER, f"router-{number}", {"select": select}))
        return made


def _made(kind: Kind, name: str, spec: Object, **labels: str) -> Object:
    return {
        "apiVersion": f"{kind.group}/{kind.version}",
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": spec,
    }


def ready(obj: Object) -> bool:
    """Whether it says so of its present generation."""
    status = obj.get("status") or {}
    if status.get("observedGeneration") != obj["metadata"]["generation"]:
        return False
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ()
    )
