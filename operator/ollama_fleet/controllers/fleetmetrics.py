"""The fleet as Prometheus sees it, read from the resources' own status at each scrape."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ollama_fleet.api.ollamanodestatus import ServerState
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER, Kind

_NODE = ("namespace", "ollamanode")
_SERVER = (*_NODE, "server")
_DISTRIBUTION = ("namespace", "distribution")

Sample = tuple[tuple[str, ...], float]
"""The values of a family's labels after the first two, and what is told."""


@dataclass(frozen=True)
class Family:
    """A gauge of one kind of resource; the first two labels are its namespace and name."""

    name: str
    about: str
    labels: tuple[str, ...]
    kind: Kind
    tell: Callable[[Object, Mapping[str, Any]], Iterator[Sample]]
    """From the object and its status."""


def _by_state(_: Object, status: Mapping[str, Any]) -> Iterator[Sample]:
    shown = status.get("servers") or ()
    for state in get_args(ServerState):
        count = sum(server["state"] == state for server in shown)
        if state == "Ready":  # those that are not shown are the least troubled
            count = max(count, status.get("readyReplicas", 0))
        yield (state,), count


def _wanted(_: Object, status: Mapping[str, Any]) -> Iterator[Sample]:
    wanted = str(status.get("ready") or "").partition("/")[2]
    if wanted.isdigit():
        yield (), int(wanted)


def _info(_: Object, status: Mapping[str, Any]) -> Iterator[Sample]:
    for server in status.get("servers") or ():
        told = (server.get(field) or "" for field in ("kubernetesNode", "gpu", "version"))
        yield (server["name"], *told), 1


def _states(_: Object, status: Mapping[str, Any]) -> Iterator[Sample]:
    for server in status.get("servers") or ():
        yield (server["name"], server["state"]), 1


def _of_servers(field: str) -> Callable[[Object, Mapping[str, Any]], Iterator[Sample]]:
    def tell(_: Object, status: Mapping[str, Any]) -> Iterator[Sample]:
        for server in status.get("servers") or ():
            if (value := server.get(field)) is not None:
                yield (server["name"],), _number(value)

    return tell


def _number(value: Any) -> float:
    """What a field of a server says, be it a list of names, a quantity or a count."""
    if isinstance(value, list):
        return len(value)
    return bytes_of(value) if isinstance(value, str) else value


def _tasks(_: Object, status: Mapping[str, Any]) -> Iterator[Sample]:
    summary = status.get("summary") or {}
    for state in ("Installed", "Pulling", "Waiting", "Failed", "Misfit"):
        yield (state,), summary.get(state.lower(), 0)


def _of_status(part: str, field: str) -> Callable[[Object, Mapping[str, Any]], Iterator[Sample]]:
    def tell(_: Object, status: Mapping[str, Any]) -> Iterator[Sample]:
        yield (), (status.get(part) or {}).get(field, 0)

    return tell


def _replicas(router: Object, status: Mapping[str, Any]) -> Iterator[Sample]:
    ready, _, wanted = str(status.get("ready") or "").partition("/")
    if ready.isdigit() and wanted.isdigit():
        yield ("Ready",), int(ready)
        yield ("Wanted",), int(wanted)


FAMILIES = (
    Family(
        "ollama_fleet_servers",
        "Servers by state: Ready, Starting, Draining, Offline, Unfit.",
        (*_NODE, "state"),
        OLLAMA_NODE,
        _by_state,
    ),
    Family("ollama_fleet_servers_wanted", "Servers there should be.", _NODE, OLLAMA_NODE, _wanted),
    Family(
        "ollama_fleet_server_info",
        "1 for each server: the machine it is on, its GPU, its release of Ollama.",
        (*_SERVER, "kubernetes_node", "gpu", "version"),
        OLLAMA_NODE,
        _info,
    ),
    Family(
        "ollama_fleet_server_state",
        "1 for the state that each server is in.",
        (*_SERVER, "state"),
        OLLAMA_NODE,
        _states,
    ),
    Family(
        "ollama_fleet_server_memory_bytes",
        "Memory for models on each server, as far as it is known.",
        _SERVER,
        OLLAMA_NODE,
        _of_servers("memoryTotal"),
    ),
    Family(
        "ollama_fleet_server_memory_used_bytes",
        "What the models in memory hold of it.",
        _SERVER,
        OLLAMA_NODE,
        _of_servers("memoryUsed"),
    ),
    Family(
        "ollama_fleet_server_disk_bytes",
        "What each server's store can hold, where that is known.",
        _SERVER,
        OLLAMA_NODE,
        _of_servers("diskTotal"),
    ),
    Family(
        "ollama_fleet_server_disk_free_bytes",
        "What models leave of that.",
        _SERVER,
        OLLAMA_NODE,
        _of_servers("diskFree"),
    ),
    Family(
        "ollama_fleet_server_models",
        "Models on each server's disk.",
        _SERVER,
        OLLAMA_NODE,
        _of_servers("installed"),
    ),
    Family(
        "ollama_fleet_server_resident",
        "Models in each server's memory.",
        _SERVER,
        OLLAMA_NODE,
        _of_servers("resident"),
    ),
    Family(
        "ollama_fleet_tasks",
        "Tasks (a model on a server) by state; Pulling includes Verifying, Waiting Paused.",
        (*_DISTRIBUTION, "state"),
        MODEL_DISTRIBUTION,
        _tasks,
    ),
    Family(
        "ollama_fleet_drift",
        "Servers that have a model with another digest than the one wanted.",
        _DISTRIBUTION,
        MODEL_DISTRIBUTION,
        _of_status("summary", "drifted"),
    ),
    Family(
        "ollama_fleet_distribution_bytes",
        "Bytes of all tasks.",
        _DISTRIBUTION,
        MODEL_DISTRIBUTION,
        _of_status("progress", "totalBytes"),
    ),
    Family(
        "ollama_fleet_distribution_completed_bytes",
        "How many of them are there.",
        _DISTRIBUTION,
        MODEL_DISTRIBUTION,
        _of_status("progress", "completedBytes"),
    ),
    Family(
        "ollama_fleet_distribution_bytes_per_second",
        "How fast the others come.",
        _DISTRIBUTION,
        MODEL_DISTRIBUTION,
        _of_status("progress", "bytesPerSecond"),
    ),
    Family(
        "ollama_fleet_router_replicas",
        "Replicas of each Router: Ready, and Wanted.",
        ("namespace", "router", "state"),
        ROUTER,
        _replicas,
    ),
)
"""Every gauge of one kind of resource; docs/reference/metrics.md is made from them."""

_RESOURCE = ("namespace", "kind", "name")
CONDITION = (
    "ollama_fleet_condition",
    "1 for the status that each condition has.",
    (*_RESOURCE, "type", "status"),
)
STALLED = (
    "ollama_fleet_stalled",
    "1 for each resource that waits for you, with the reason; absent for others.",
    (*_RESOURCE, "reason"),
)


class FleetCollector(Collector):
    """Gauges of servers, tasks and conditions; labels are names, so as many as objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> list[Metric]:
        """Nothing: what there is to tell depends on the fleet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All gauges as of now."""
        for family in FAMILIES:
            metric = GaugeMetricFamily(family.name, family.about, labels=family.labels)
            for obj in self._store.list(family.kind):
                for values, value in family.tell(obj, obj.get("status") or {}):
                    metric.add_metric((*_place(obj), *values), value)
            yield metric
        yield from self._conditions()

    def _conditions(self) -> Iterator[Metric]:
        conditions = GaugeMetricFamily(CONDITION[0], CONDITION[1], labels=CONDITION[2])
        stalled = GaugeMetricFamily(STALLED[0], STALLED[1], labels=STALLED[2])
        for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER):
            for obj in self._store.list(kind):
                namespace, name = _place(obj)
                for one in (obj.get("status") or {}).get("conditions") or ():
                    for status in ("True", "False", "Unknown"):
                        conditions.add_metric(
                            (namespace, kind.kind, name, one["type"], status),
                            one["status"] == status,
                        )
                    if one["type"] == "Stalled" and one["status"] == "True":
                        stalled.add_metric((namespace, kind.kind, name, one["reason"]), 1)
        yield conditions
        yield stalled


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
