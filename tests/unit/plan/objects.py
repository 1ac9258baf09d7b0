"""Small objects to plan over."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ollama_fleet.plan.demands import Demand, demand_of, in_order
from ollama_fleet.plan.memory import Memory
from ollama_fleet.plan.servers import Installed, Probe, Server

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GIB = 2**30
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64

Object = dict[str, Any]


def resource(kind: str, name: str, spec: Object, **more: Any) -> Object:
    return {
        "apiVersion": "ollamafleet.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "llm", "uid": f"uid-{name}", "generation": 1},
        "spec": spec,
        **more,
    }


def machine(name: str, memory: int | None = 24, **labels: str) -> Object:
    """A Kubernetes node with one GPU of ``memory`` GiB."""
    known = {} if memory is None else {"nvidia.com/gpu.memory": str(memory * 1024)}
    return {
        "metadata": {"name": name, "labels": {**known, **labels}},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": "1"}},
    }


def pod(name: str, on: str | None = "gpu-a", ready: bool = True, **status: Any) -> Object:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name, "namespace": "llm"},
        "spec": {
            "nodeName": on,
            "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
        "status": {"podIP": "10.0.0.1", "conditions": conditions, **status},
    }


def stored(name: str, claim: str = "", **spec: Any) -> Object:
    """A Ready pod that keeps models in a volume of that claim, or else in its own folder."""
    made = pod(name)
    source = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
    made["spec"] |= {"volumes": [{"name": "models", **source}], **spec}
    return made


def volume(name: str, capacity: str | None) -> Object:
    """A PersistentVolumeClaim; without a capacity it is not bound."""
    status = {"phase": "Bound", "capacity": {"storage": capacity}} if capacity else {}
    return {"metadata": {"name": name}, "status": status}


def probe(**installed: str) -> Probe:
    """A server that answered just now with these models (dots and colons as in names)."""
    return Probe(
        version="0.35.1",
        installed={
            name.replace("__", ":").replace("_", "."): Installed(digest, 5 * GIB)
            for name, digest in installed.items()
        },
        first_seen=NOW,
        last_seen=NOW,
    )


def server(name: str = "a-0", memory: int | None = 24, **changes: Any) -> Server:
    size = None if memory is None else memory * GIB
    made: dict[str, Any] = {
        "name": name,
        "ollamanode": "a",
        "labels": {},
        "state": "Ready",
        "memory": Memory(size, "label nvidia.com/gpu.memory"),
        "url": f"http://{name}:11434",
        "probe": probe(),
    }
    return Server(**{**made, **changes})


def demands(distributions: Iterable[Object]) -> tuple[Demand, ...]:
    """What these ModelDistributions want."""
    return in_order(demand_of(one) for one in distributions)
