"""The fleet as Prometheus sees it, read from the resources' own status at each scrape."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ollama_fleet.api.ollamanodestatus import ServerState
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.api.taskstatus import TaskState
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER

_SUMMARY = {
    "Installed": "installed",
    "Pulling": "pulling",
    "Waiting": "waiting",
    "Failed": "failed",
    "Misfit": "misfit",
}


class FleetCollector(Collector):
    """Gauges of servers, tasks and conditions; labels are names, so as many as objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> list[Metric]:
        """Nothing: what there is to tell depends on the fleet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All gauges as of now."""
        yield from self._servers()
        yield from self._tasks()
        yield self._conditions()

    def _servers(self) -> Iterator[Metric]:
        servers = GaugeMetricFamily(
            "ollama_fleet_servers",
            "Servers by state.",
            labels=("namespace", "ollamanode", "state"),
        )
        memory = GaugeMetricFamily(
            "ollama_fleet_server_memory_bytes",
            "Memory for models on each server, as far as it is known.",
            labels=("namespace", "ollamanode", "server"),
        )
        for node in self._store.list(OLLAMA_NODE):
            namespace, name = _place(node)
            shown = (node.get("status") or {}).get("servers") or ()
            for state in get_args(ServerState):
                count = sum(server["state"] == state for server in shown)
                servers.add_metric((namespace, name, state), count)
            for server in shown:
                if size := server.get("memoryTotal"):
                    memory.add_metric((namespace, name, server["name"]), bytes_of(size))
        yield servers
        yield memory

    def _tasks(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily(
            "ollama_fleet_tasks",
            "Tasks (a model on a server) by state; Pulling includes Verifying, Waiting Paused.",
            labels=("namespace", "distribution", "state"),
        )
        drift = GaugeMetricFamily(
            "ollama_fleet_drift",
            "Servers that have a model with another digest than the one wanted.",
            labels=("namespace", "distribution"),
        )
        for distribution in self._store.list(MODEL_DISTRIBUTION):
            namespace, name = _place(distribution)
            summary = (distribution.get("status") or {}).get("summary") or {}
            for state in get_args(TaskState):
                if state in _SUMMARY:
                    count = summary.get(_SUMMARY[state], 0)
                    tasks.add_metric((namespace, name, state), count)
            drift.add_metric((namespace, name), summary.get("drifted", 0))
        yield tasks
        yield drift

    def _conditions(self) -> Metric:
        conditions = GaugeMetricFamily(
            "ollama_fleet_condition",
            "1 for the status that each condition has.",
            labels=("namespace", "kind", "name", "type", "status"),
        )
        for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER):
            for obj in self._store.list(kind):
                namespace, name = _place(obj)
                for one in (obj.get("status") or {}).get("conditions") or ():
                    for status in ("True", "False", "Unknown"):
                        conditions.add_metric(
                            (namespace, kind.kind, name, one["type"], status),
                            one["status"] == status,
                        )
        return conditions


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
