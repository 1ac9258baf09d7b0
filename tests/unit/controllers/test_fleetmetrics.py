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
        {
            "name": "a-0",
            "state": "Ready",
            "memoryTotal": "24Gi",
            "memoryUsed": "6Gi",
            "diskFree": "1Gi",
            "installed": 3,
            "resident": ["m", "n"],
            "kubernetesNode": "gpu-1",
            "version": "0.17.4",
        },
        {"name": "a-1", "state": "Offline"},
    ]
    node = {"servers": servers, "conditions": [ready], "ready": "1/4"}
    store.put(stored("OllamaNode", "a", node))
    summary = {"installed": 3, "drifted": 1}
    progress = {"completedBytes": 5, "totalBytes": 9, "bytesPerSecond": 2}
    store.put(stored("ModelDistribution", "md", {"summary": summary, "progress": progress}))
    value = registry.get_sample_value
    place = {"namespace": "llm"}
    of = {**place, "ollamanode": "a"}
    assert value("ollama_fleet_servers", {**of, "state": "Ready"}) == 1
    assert value("ollama_fleet_servers", {**of, "state": "Draining"}) == 0
    assert value("ollama_fleet_servers_wanted", of) == 4
    about = {"server": "a-0", "kubernetes_node": "gpu-1", "gpu": "", "version": "0.17.4"}
    assert value("ollama_fleet_server_info", {**of, **about}) == 1
    assert value("ollama_fleet_server_memory_bytes", {**of, "server": "a-0"}) == 24 * 2**30
    assert value("ollama_fleet_server_memory_bytes", {**of, "server": "a-1"}) is None
    assert value("ollama_fleet_server_state", {**of, "server": "a-1", "state": "Offline"}) == 1
    assert value("ollama_fleet_server_state", {**of, "server": "a-1", "state": "Ready"}) is None
    for name, expected in (
        ("memory_used_bytes", 6 * 2**30),
        ("disk_free_bytes", 2**30),
        ("disk_bytes", None),
        ("models", 3),
        ("resident", 2),
    ):
        assert value(f"ollama_fleet_server_{name}", {**of, "server": "a-0"}) == expected
    tasks = {**place, "distribution": "md"}
    assert value("ollama_fleet_tasks", {**tasks, "state": "Installed"}) == 3
    assert value("ollama_fleet_drift", tasks) == 1
    assert value("ollama_fleet_distribution_bytes", tasks) == 9
    assert value("ollama_fleet_distribution_completed_bytes", tasks) == 5
    assert value("ollama_fleet_distribution_bytes_per_second", tasks) == 2
    condition = {**place, "kind": "OllamaNode", "name": "a", "type": "Ready"}
    assert value("ollama_fleet_condition", {**condition, "status": "True"}) == 1
    assert value("ollama_fleet_condition", {**condition, "status": "False"}) == 0


def test_servers_that_status_leaves_out_are_ready_ones() -> None:
    store, registry = Store(), CollectorRegistry()
    registry.register(FleetCollector(store))
    servers = [{"name": "a-0", "state": "Offline"}, {"name": "a-1", "state": "Ready"}]
    store.put(stored("OllamaNode", "a", {"servers": servers, "readyReplicas": 150}))
    labels = {"namespace": "llm", "ollamanode": "a"}
    assert registry.get_sample_value("ollama_fleet_servers", {**labels, "state": "Ready"}) == 150
    assert registry.get_sample_value("ollama_fleet_servers", {**labels, "state": "Offline"}) == 1
    assert registry.get_sample_value("ollama_fleet_servers_wanted", labels) is None


def test_what_waits_for_somebody_is_told_with_its_reason() -> None:
    store, registry = Store(), CollectorRegistry()
    registry.register(FleetCollector(store))
    for name, status in (("a", "True"), ("b", "False")):
        stalled = {"type": "Stalled", "status": status, "reason": "GpuGone"}
        store.put(stored("OllamaNode", name, {"conditions": [stalled]}))
    labels = {"namespace": "llm", "kind": "OllamaNode", "reason": "GpuGone"}
    assert registry.get_sample_value("ollama_fleet_stalled", {**labels, "name": "a"}) == 1
    assert registry.get_sample_value("ollama_fleet_stalled", {**labels, "name": "b"}) is None


def test_a_routers_replicas_are_told() -> None:
    store, registry = Store(), CollectorRegistry()
    registry.register(FleetCollector(store))
    store.put(stored("Router", "chat", {"ready": "1/2"}))
    labels = {"namespace": "llm", "router": "chat"}
    told = {
        state: registry.get_sample_value("ollama_fleet_router_replicas", {**labels, "state": state})
        for state in ("Ready", "Wanted")
    }
    assert told == {"Ready": 1, "Wanted": 2}


def test_an_object_without_a_status_yet_is_no_trouble() -> None:
    store, registry = Store(), CollectorRegistry()
    registry.register(FleetCollector(store))
    new = stored("Router", "chat", {})
    del new["status"]
    store.put(new)
    assert list(registry.collect())
