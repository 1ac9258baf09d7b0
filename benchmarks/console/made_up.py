"""OllamaNodes and ModelDistributions that nobody has, and how they change."""

import random
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from ollama_fleet.kube import Kind, Object, WatchEvent
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE

NAMESPACE = "llm"
EACH = 10
"""Servers of an OllamaNode."""
MODELS = 20
"""Tasks of a server."""
LISTED = 50
"""Tasks of a ModelDistribution, as many as its status tells."""
AT = "2026-01-01T00:00:00Z"
GIB = 2**30


class Fleet:
    """So many servers, each with 20 models that were distributed."""

    def __init__(self, servers: int) -> None:
        self._chance = random.Random(7)
        self._version = 0
        self.nodes = [_node(number) for number in range(servers // EACH)]
        names = [one["name"] for node in self.nodes for one in node["status"]["servers"]]
        tasks = [(server, f"model-{number}:8b") for number in range(MODELS) for server in names]
        self.distributions = [
            _distribution(number, tasks[at : at + LISTED])
            for number, at in enumerate(range(0, len(tasks), LISTED))
        ]

    def all(self) -> Iterator[tuple[Kind, Object]]:
        """Everything there is."""
        for node in self.nodes:
            yield OLLAMA_NODE, self._told(node)
        for one in self.distributions:
            yield MODEL_DISTRIBUTION, self._told(one)

    def change(self) -> tuple[Kind, Object]:
        """One server's memory or one pull's progress is another."""
        if self._chance.random() < 0.5:
            node = self._chance.choice(self.nodes)
            server = self._chance.choice(node["status"]["servers"])
            server["memoryUsed"] = f"{self._chance.randrange(24)}Gi"
            server["activeRequests"] = self._chance.randrange(8)
            return OLLAMA_NODE, self._told(node)
        one = self._chance.choice(self.distributions)
        task = one["status"]["tasks"][0]
        task["state"], task["progress"] = "Pulling", round(self._chance.random(), 3)
        task["bytesPerSecond"] = self._chance.randrange(400_000_000)
        return MODEL_DISTRIBUTION, self._told(one)

    def _told(self, obj: Object) -> Object:
        """As Kubernetes gives it: a copy with a version of its own."""
        self._version += 1
        status = {key: _copied(value) for key, value in obj["status"].items()}
        meta = {**obj["metadata"], "resourceVersion": str(self._version)}
        return {**obj, "metadata": meta, "status": status}


def _copied(value: Any) -> Any:
    return [dict(one) for one in value] if isinstance(value, list) else value


def _resource(kind: Kind, name: str, spec: Any, status: Any) -> Object:
    meta = {"name": name, "namespace": NAMESPACE, "uid": name, "generation": 1}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {**meta, "creationTimestamp": AT},
        "spec": spec,
        "status": {"observedGeneration": 1, **status},
    }


def _node(number: int) -> Object:
    servers = [
        {
            "name": f"rack{number:02}-{one}",
            "state": "Ready",
            "address": f"http://10.0.{number}.{one}:11434",
            "version": "0.35.1",
            "memoryTotal": "24Gi",
            "memoryUsed": "14Gi",
            "resident": ["model-0:8b"],
            "installed": MODELS,
            "diskFree": "312Gi",
            "registeredAt": AT,
        }
        for one in range(EACH)
    ]
    status = {"replicas": EACH, "readyReplicas": EACH, "servers": servers}
    return _resource(OLLAMA_NODE, f"rack{number:02}", {"replicas": EACH}, status)


def _distribution(number: int, tasks: list[tuple[str, str]]) -> Object:
    told = [
        {
            "id": f"{number}-{at}",
            "server": server,
            "model": model,
            "state": "Installed",
            "progress": 1,
            "digest": f"sha256:{number:064x}",
            "totalBytes": 5_000_000_000,
            "completedBytes": 5_000_000_000,
            "createdAt": AT,
            "updatedAt": AT,
        }
        for at, (server, model) in enumerate(tasks)
    ]
    models = [{"name": name} for name in sorted({model for _, model in tasks})]
    summary = {"desired": len(told), "installed": len(told)}
    status = {"tasks": told, "summary": summary}
    return _resource(MODEL_DISTRIBUTION, f"wave{number:03}", {"models": models}, status)


class Nowhere:
    """Kubernetes with nothing in it; what there is, is put into the store."""

    async def watch(self, _kind: Kind, _namespace: str | None) -> AsyncGenerator[WatchEvent, None]:
        """Nothing, at once."""
        yield WatchEvent("SYNCED", {})

    async def list(self, *_: Any) -> list[Object]:
        """Nothing."""
        return []
