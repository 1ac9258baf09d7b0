"""What an OllamaNode's status tells of its servers."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.ollamanodestatus import MemoryStatus, OllamaNodeStatus, ServerStatus
from ollama_fleet.api.quantity import gib, short_quantity
from ollama_fleet.api.servers import OLLAMANODE_LABEL
from ollama_fleet.plan.conditions import Verdict, Warned, conditions
from ollama_fleet.plan.drift import pins_told
from ollama_fleet.plan.observed import Observed, wanted
from ollama_fleet.plan.preload import Kept, held_on
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.rollout import updated
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.times import parsed, rfc3339
from ollama_fleet.plan.usage import with_usage
from ollama_fleet.plan.volumes import volume_size
from ollama_fleet.plan.wedges import Wedges

SERVERS_SHOWN = 100
SEEN_STEP = timedelta(minutes=5)
"""How coarsely lastSeen is kept while all is well: a fresh stamp alone is no reason to write."""

_ORDER = {"Unfit": 0, "Offline": 1, "Starting": 2, "Draining": 3, "Ready": 4}


def status_of(
    node: Object,
    spec: OllamaNodeSpec,
    observed: Observed,
    servers: list[Server],
    verdict: Verdict,
    warned: Warned,
    now: datetime,
    kept: Mapping[str, Kept],
    wedges: Wedges,
) -> dict[str, Any]:
    """The status to write, conditions included."""
    name = node["metadata"]["name"]
    previous = node.get("status") or {}
    generation = node["metadata"].get("generation", 1)
    ready = sum(server.state == "Ready" for server in servers)
    before = {one["name"]: one for one in previous.get("servers") or ()}
    shown = sorted(
        servers,
        key=lambda one: (_ORDER[one.state] - (one.name in wedges.models), one.name),
    )
    status = OllamaNodeStatus(
        observed_generation=generation,
        replicas=len([server for server in servers if server.pod or spec.external]),
        ready_replicas=ready,
        updated_replicas=updated(spec, observed.workload, servers),
        ready=f"{ready}/{wanted(spec, observed.workload)}",
        selector=f"{OLLAMANODE_LABEL}={name}",
        version=", ".join(versions_of(servers))[:64] or None,
        models=len({model for server in servers for model in server.probe.installed}),
        memory=_memory(server for server in servers if server.pod or spec.external),
        volume_size=volume_size(name, spec, observed.volumes),
        servers=[
            with_usage(
                _server_status(
                    one,
                    before.get(one.name, {}),
                    observed.active,
                    held_on(kept[one.name], one, before.get(one.name, {})),
                    wedges,
                ),
                before.get(one.name, {}),
                observed.usage.get(one.pod["metadata"]["name"] if one.pod else ""),
            )
            for one in shown[:SERVERS_SHOWN]
        ],
        servers_omitted=max(0, len(shown) - SERVERS_SHOWN),
        pins=pins_told(observed.demands, servers),
    ).wire()
    told = conditions(previous.get("conditions") or (), verdict, generation, now)
    status["conditions"] = warned.among(told, generation, now)
    return status


def versions_of(servers: Iterable[Server]) -> list[str]:
    """The different versions of Ollama that servers run."""
    return sorted({server.probe.version for server in servers if server.probe.version})


def _memory(servers: Iterable[Server]) -> MemoryStatus | None:
    told = [server.memory for server in servers]
    known = [memory for memory in told if memory.size is not None]
    unknown = [memory for memory in told if memory.size is None]
    if not known:
        return MemoryStatus(source=unknown[0].source) if unknown else None
    least = min(known, key=lambda memory: memory.size or 0)
    most = max(known, key=lambda memory: memory.size or 0)
    source = least.source
    if least.size != most.size:
        source += f"; the smallest of {gib(least.size or 0)} to {gib(most.size or 0)}"
    return MemoryStatus(per_server=short_quantity(least.size or 0), source=source)


def _server_status(
    server: Server,
    before: Mapping[str, Any],
    active: Mapping[str, int] | None,
    preloaded: list[str],
    wedges: Wedges,
) -> ServerStatus:
    probe = server.probe
    return ServerStatus(
        name=server.name,
        state=server.state,
        kubernetes_node=server.kubernetes_node,
        address=server.url,
        version=probe.version,
        gpu=server.memory.gpu,
        memory_total=short_quantity(server.memory.size) if server.memory.size else None,
        memory_source=server.memory.source,
        memory_used=short_quantity(sum(probe.resident.values())) if probe.version else None,
        disk_total=_size(server.store.size),
        disk_free=_size(server.store.free) if probe.version else None,
        installed=len(probe.installed) if probe.version else None,
        resident=sorted(probe.resident)[:64],
        restoring=list(server.restoring),
        preloaded=preloaded,
        active_requests=None if active is None or not server.url else active.get(server.url, 0),
        registered_at=before.get("registeredAt")
        or (rfc3339(probe.first_seen) if probe.first_seen else None),
        last_seen=_last_seen(server, before),
        message=_message(server, wedges),
        **wedges.told_of(server.name),
    )


def _message(server: Server, wedges: Wedges) -> str | None:
    told = server.trouble.message if server.trouble else wedges.message(server) or server.note
    return told[:1024] if told else None


def _size(size: int | None) -> str | None:
    return None if size is None else short_quantity(size)


def _last_seen(server: Server, before: Mapping[str, Any]) -> str | None:
    seen = server.probe.last_seen
    told = parsed(before.get("lastSeen"))
    if seen is None:
        return before.get("lastSeen")
    if told is not None and seen - told < SEEN_STEP and before.get("state") == server.state:
        return str(before["lastSeen"])
    return rfc3339(seen)
