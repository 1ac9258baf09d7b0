from typing import Any

from prometheus_client import CollectorRegistry

from ollama_fleet.controllers.fleetmetrics import FleetCollector
from ollama_fleet.controllers.store import Store


def stored(kind: str, name: str, status: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": "llm", "uid": name, "resourceVersion": "1"}
    return {
        "apiVersion": "ollamafleet.dev/v1alpha1",
        "kind": kind,
        "metadata": meta,
        "spec": {},
        "status": status,
    }


def test_the_fleet_is_told_from_status() -> None:
    store, registry = Store(), CollectorRegistry()
    registry.register(FleetCollector(store))
    ready = {"type": "Ready", "status": "True"}
    servers = [
        {"name": "a-0", "state": "Ready", "memoryTotal": "24Gi"},
        {"name": "a-1", "state": "Offline"},
    ]
    store.put(stored("OllamaNode", "a", {"servers": servers, "conditions": [ready]}))
    store.put(stored("ModelDistribution", "md", {"summary": {"installed": 3, "drifted": 1}}))
    value = registry.get_sample_value
    place = {"namespace": "llm"}
    of = {**place, "ollamanode": "a"}
    assert value("ollama_fleet_servers", {**of, "state": "Ready"}) == 1
    assert value("ollama_fleet_servers", {**of, "state": "Draining"}) == 0
    assert value("ollama_fleet_server_memory_bytes", {**of, "server": "a-0"}) == 24 * 2**30
    assert value("ollama_fleet_server_memory_bytes", {**of, "server": "a-1"}) is None
    tasks = {**place, "distribution": "md"}
    assert value("ollama_fleet_tasks", {**tasks, "state": "Installed"}) == 3
    assert value("ollama_fleet_drift", tasks) == 1
    condition = {**place, "kind": "OllamaNode", "name": "a", "type": "Ready"}
    assert value("ollama_fleet_condition", {**condition, "status": "True"}) == 1
    assert value("ollama_fleet_condition", {**condition, "status": "False"}) == 0


def test_an_object_without_a_status_yet_is_no_trouble() -> None:
    store, registry = Store(), CollectorRegistry()
    registry.register(FleetCollector(store))
    new = stored("Router", "chat", {})
    del new["status"]
    store.put(new)
    assert list(registry.collect())
