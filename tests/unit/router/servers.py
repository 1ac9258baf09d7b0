"""Servers as the router sees them, made up."""

from typing import Any

from ollama_fleet.router.breaker import Breaker
from ollama_fleet.router.snapshot import Endpoint, Load, Loaded, Model, Server, State

M = "m:latest"


def breaker() -> Breaker:
    return Breaker(failures=3, cooldown=5.0, max_cooldown=20.0)


def server(
    name: str,
    *,
    state: State = State.READY,
    resident: bool = False,
    in_flight: int = 0,
    missed: int = 0,
    loading: dict[str, float] | None = None,
    memory: dict[str, tuple[int, float]] | None = None,
    size: int = 0,
    **more: Any,
) -> Server:
    """A server with the model M of `size` bytes; `memory` are sizes and expiries of what is loaded,
    `more` the fields of its endpoint."""
    load = Load(breaker)
    for _ in range(in_flight):
        load.acquire(M)
    load.loading |= loading or {}
    load.remembers({name: Loaded(*found) for name, found in (memory or {}).items()})
    loaded = frozenset({M} if resident else ())
    endpoint = Endpoint(name, "127.0.0.1", 1, **more)
    installed = {M: Model(M, "", {"size": size})}
    return Server(endpoint, load, state, "", installed, loaded, loaded, missed)
