"""Everything the router knows right now, as JSON for whoever looks for a fault.

What a dataclass keeps out of its own `repr`, such as headers and certificates, stays out of here.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from pydantic.alias_generators import to_camel

from ollama_fleet.router.breaker import Breaker
from ollama_fleet.router.exchange import Exchange
from ollama_fleet.router.front import Front
from ollama_fleet.router.relay import Relay
from ollama_fleet.router.snapshot import Server

MAX_EXCHANGES = 1000


def state_of(relay: Relay, fronts: Iterable[Front], now: float) -> dict[str, Any]:
    """Servers and requests under way, the oldest of them first."""
    fleet = relay.fleet
    exchanges = [front.exchange for front in fronts if front.exchange is not None]
    exchanges.sort(key=lambda one: one.call.started)
    return {
        "servers": [_server(server, relay, now) for server in fleet.snapshot.servers],
        "left": [
            {"url": url, "inFlight": load.in_flight, "models": load.models}
            for url, load in fleet.left
        ],
        "exchanges": [_exchange(one, now) for one in exchanges[:MAX_EXCHANGES]],
        "exchangesOmitted": max(0, len(exchanges) - MAX_EXCHANGES),
    }


def shown(value: object) -> Any:
    """A value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {to_camel(one.name): shown(getattr(value, one.name)) for one in _open(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Mapping):
        return {str(key): shown(one) for key, one in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(shown(one) for one in value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {to_camel(name): shown(one) for name, one in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _open(value: Any) -> list[Any]:
    return [one for one in fields(value) if one.repr]


def _server(server: Server, relay: Relay, now: float) -> dict[str, Any]:
    load = server.load
    connections, idle = relay.connections(server)
    return {
        **shown(server.endpoint),
        "headers": [name.decode() for name, _ in server.endpoint.headers],
        "ownAuthority": server.endpoint.ca is not None,
        "url": server.endpoint.url,
        "state": server.state.value,
        "version": server.version,
        "missedProbes": server.missed,
        "installed": {name: model.digest for name, model in sorted(server.installed.items())},
        "loaded": sorted(server.loaded),
        "resident": sorted(server.resident),
        "withheld": sorted(server.withheld),
        "inFlight": load.in_flight,
        "models": load.models,
        "busySeconds": _left(load.busy_until, now),
        "breaker": _breaker(load.breaker, now),
        "faults": {model: _breaker(one, now) for model, one in load.faults.items()},
        "connections": {"open": connections, "idle": idle},
    }


def _breaker(breaker: Breaker, now: float) -> dict[str, Any]:
    return {
        "state": breaker.state(now).name,
        "failuresInARow": breaker.row,
        "openSeconds": _left(breaker.open_until, now),
        "nextCooldownSeconds": breaker.next_cooldown,
    }


def _exchange(exchange: Exchange, now: float) -> dict[str, Any]:
    call = exchange.call
    return {
        "phase": exchange.phase,
        "ageSeconds": round(now - call.started, 3),
        "client": call.client,
        "peer": call.front.address if call.front is not None else "",
        "path": call.route.path.decode(),
        "model": call.name,
        "resolved": call.model,
        "server": call.server.name if call.server is not None else "",
        "attempts": call.attempts,
        "decision": call.decision.explain() if call.decision is not None else "",
        "queueSeconds": round(call.waited, 3),
        "bytesIn": len(call.request.body),
        "bytesOut": call.bytes_out,
    }


def _left(until: float, now: float) -> float:
    return round(max(0.0, until - now), 3)
