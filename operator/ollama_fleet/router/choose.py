"""Which server answers: filter, score, pick. Pure; the clock and the dice are arguments."""

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from ollama_fleet.router.breaker import BreakerState
from ollama_fleet.router.snapshot import MAX_IN_FLIGHT, Server, State


class Decision(NamedTuple):
    """A server, or None, and why. The counts say how many servers each step left over."""

    server: Server | None
    reason: str
    holders: int
    ready: int
    preferred: int

    def explain(self) -> str:
        """One line for people."""
        counts = f"{self.holders} have the model, {self.ready} can take it"
        if self.server is None:
            return f"none ({self.reason}); {counts}"
        return f"{self.server.name} ({self.reason}); {counts}, {self.preferred} preferred"


def choose(
    holders: Sequence[Server],
    model: str,
    tried: Container[str],
    now: float,
    draw: float,
    strategy: str = "LeastLoad",
    turn: int = 0,
    *,
    cap: Callable[[Server], int] | None = None,
) -> Decision:
    """Choose among `holders`, the servers that have `model`.

    `tried` are server names not to be used again, `now` is on the loads' clock, `draw` is uniform
    in [0, 1), and `turn` counts the model's requests. Who may be chosen is the same for every
    `strategy`; where a model is in memory counts for LeastLoad alone.

    `cap` says how many requests for the model a server is given at a time (None: as many as come).
    Where each that could take it has that many, there is no server and the reason is `NoSlot`: a
    request for the model is under way at one of them, and its end is the moment to ask again.
    """
    able = [server for server in holders if can_take(server, tried, now)]
    if not able:
        return Decision(None, _why_none(holders, tried), len(holders), 0, 0)
    preferred = [server for server in able if is_steady(server, model, now)] or able
    if cap is not None:
        preferred = [server for server in preferred if in_flight(server, model) < cap(server)]
        if not preferred:
            return Decision(None, "NoSlot", len(holders), len(able), 0)
    preferred = [server for server in preferred if server.endpoint.weight] or preferred
    if strategy == "Weighted":
        chosen = by_weight(preferred, draw)
        return Decision(chosen, strategy, len(holders), len(able), len(preferred))
    if strategy == "RoundRobin":
        chosen = preferred[turn % len(preferred)]
        return Decision(chosen, strategy, len(holders), len(able), len(preferred))
    warm = [server for server in preferred if has_warm_slot(server, model)]
    if warm:
        reason, preferred = "Resident", warm
    else:
        reason = "LeastLoad" if len(preferred) > 1 else "OnlyOne"
    chosen = least_loaded(preferred, draw)
    return Decision(chosen, reason, len(holders), len(able), len(preferred))


def can_take(server: Server, tried: Container[str], now: float) -> bool:
    """Ready, not tried before, reachable as far as is known, and not full."""
    load = server.load
    return (
        server.state is State.READY
        and load.in_flight < MAX_IN_FLIGHT
        and server.endpoint.name not in tried
        and (not load.breaker.row or load.breaker.state(now) is not BreakerState.OPEN)
    )


def is_steady(server: Server, model: str, now: float) -> bool:
    """Answers probes, did not just say "busy", and does not keep failing with this model."""
    load = server.load
    if server.missed or now < load.busy_until:
        return False
    fault = load.faults.get(model) if load.faults else None
    return fault is None or fault.state(now) is not BreakerState.OPEN


def has_warm_slot(server: Server, model: str) -> bool:
    """The model is loaded there and fewer requests run than it answers at a time."""
    return model in server.resident and in_flight(server, model) < server.endpoint.parallel


def in_flight(server: Server, model: str) -> int:
    """Requests for the model that the server is working on, those of other replicas included."""
    load = server.load
    own = load.models.get(model, 0)
    return own + load.others.get(model, 0) if load.others else own


def by_weight(servers: Sequence[Server], draw: float) -> Server:
    """Each in proportion to its weight; all alike where none has any."""
    total = sum(server.endpoint.weight for server in servers)
    if not total:
        return servers[int(draw * len(servers))]
    left = draw * total
    for server in servers:
        left -= server.endpoint.weight
        if left < 0:
            return server
    return servers[-1]


def least_loaded(servers: Sequence[Server], draw: float) -> Server:
    """The less loaded of two picked at random, so that routers do not all pick the same one."""
    count = len(servers)
    if count == 1:
        return servers[0]
    first, second = divmod(int(draw * count * (count - 1)), count - 1)
    second += second >= first
    one, other = servers[first], servers[second]
    return one if _burden(one) <= _burden(other) else other


def _burden(server: Server) -> float:
    return (server.load.in_flight + server.load.elsewhere + 1) / (server.endpoint.weight or 1)


def _why_none(holders: Sequence[Server], tried: Container[str]) -> str:
    if not holders:
        return "NoModel"
    ready = [server for server in holders if server.state is State.READY]
    if not ready:
        return "NoneReady"
    untried = [server for server in ready if server.name not in tried]
    if not untried:
        return "AllTried"
    if all(server.load.in_flight >= MAX_IN_FLIGHT for server in untried):
        return "AllFull"
    return "AllFailing"
