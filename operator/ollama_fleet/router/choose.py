"""Which server answers: filter, score, pick. Pure; the clock and the dice are arguments."""

from collections.abc import Callable, Container, Sequence
from typing import Final

from ollama_fleet.router.affinity import by_conversation
from ollama_fleet.router.breaker import BreakerState
from ollama_fleet.router.estimates import Estimates
from ollama_fleet.router.loading import holds, places, wait_for, worth_loading
from ollama_fleet.router.ring import Ring
from ollama_fleet.router.snapshot import MAX_IN_FLIGHT, READY, Server, in_flight

UNSEEN: Final = Estimates()


class Decision:
    """A server, or None, and why. The counts say how many servers each step left over.

    `wait` and `load` are what was weighed where no slot was free: the seconds until there is one
    (None: the model is nowhere), and those that the cheapest load takes (None: every server that
    may be used has the model).
    """

    __slots__ = ("holders", "load", "preferred", "ready", "reason", "server", "wait", "warm")

    def __init__(
        self,
        server: Server | None,
        reason: str,
        holders: int,
        ready: int,
        preferred: int,
        warm: int = 0,
        wait: float | None = None,
        load: float | None = None,
    ) -> None:
        self.server = server
        self.reason = reason
        self.holders = holders
        self.ready = ready
        self.preferred = preferred
        self.warm = warm
        self.wait = wait
        self.load = load

    def explain(self) -> str:
        """One line for people: the steps in their order."""
        steps = f"{self.holders} have the model, {self.ready} can take it"
        if self.preferred:
            steps += f", {self.preferred} preferred, {self.warm} warm with a free slot"
        if self.wait is not None:
            steps += f", {self.wait:.1f} s to wait"
        if self.load is not None:
            steps += f", {self.load:.1f} s to load"
        server = "none" if self.server is None else self.server.name
        return f"{server} ({self.reason}); {steps}"


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
    waiting: int = 0,
    conversation: tuple[Ring, int] | None = None,
    loads: bool = True,
    estimates: Estimates = UNSEEN,
) -> Decision:
    """Choose among `holders`, the servers that have `model`.

    `tried` are server names not to be used again, `now` is on the loads' clock, `draw` is uniform
    in [0, 1), and `turn` counts the model's requests. Who may be chosen is the same for every
    `strategy`; where a model is in memory counts for LeastLoad and PrefixAffinity alone, and only
    if the request `loads` it.

    `cap` says how many requests for the model a server is given at a time (None: as many as come),
    and `waiting` how many wait for a slot before this one. Where nobody that is to take it has one,
    there is no server and the reason is `NoSlot`: a request for the model is under way at one of
    them, and its end is the moment to ask again.

    PrefixAffinity follows the `conversation`, a key on the ring of `holders`, among the servers
    where the model is in memory, those without a free slot included: a slot that is taken for a
    moment is no reason to leave what the server remembers of the conversation, a load above 125 %
    of the mean is. Without one, it is LeastLoad.
    """
    able = [
        server
        for server in holders
        if can_take(server, tried, now) and model not in server.load.wedged
    ]
    if not able:
        return Decision(None, _why_none(holders, model, tried), len(holders), 0, 0)
    steady = [server for server in able if is_steady(server, model, now)] or able
    preferred = steady
    if cap is not None:
        preferred = [server for server in steady if in_flight(server, model) < cap(server)]
        if not preferred:
            return Decision(None, "NoSlot", len(holders), len(able), 0)
    preferred = [server for server in preferred if server.endpoint.weight] or preferred
    counts = len(holders), len(able), len(preferred)
    if strategy == "Weighted":
        return Decision(by_weight(preferred, draw), strategy, *counts)
    if strategy == "RoundRobin":
        return Decision(preferred[turn % len(preferred)], strategy, *counts)
    if not loads:
        return Decision(least_loaded(preferred, draw), "LeastLoad", *counts)

    warm: list[Server] = []
    full: list[Server] = []
    rest: list[Server] = []
    for server in preferred:
        load = server.load
        if model not in server.resident or load.loading:
            rest.append(server)
        elif in_flight(server, model) < server.endpoint.parallel:
            warm.append(server)
        else:
            full.append(server)
    if warm or not rest:
        if conversation is not None:
            held = [*warm, *full, *(server for server in rest if holds(server, model))]
            chosen, reason = by_conversation(held, model, *conversation), "Conversation"
        elif warm:
            chosen, reason = least_loaded(warm, draw), "Resident"
        else:
            chosen, reason = least_loaded(full, draw), "Waits"
        return Decision(chosen, reason, *counts, len(warm))
    if len(steady) == 1:
        return Decision(steady[0], "OnlyOne", *counts)
    return _wait_or_load(
        steady, preferred, model, waiting, now, draw, conversation, estimates, counts
    )


def _wait_or_load(
    steady: Sequence[Server],
    preferred: Sequence[Server],
    model: str,
    waiting: int,
    now: float,
    draw: float,
    conversation: tuple[Ring, int] | None,
    estimates: Estimates,
    counts: tuple[int, int, int],
) -> Decision:
    """No slot is free where the model is in memory: wait for one of them, or load it elsewhere."""
    weighty = [server for server in steady if server.endpoint.weight] or steady
    held = [server for server in weighty if holds(server, model)]
    found = places((s for s in preferred if not holds(s, model)), model, now, estimates)
    wait = wait_for(held, model, waiting, now, estimates) if held else None
    load = None
    if found:
        best = min(place[:2] for place in found)
        load = best[0]
        loading = any(model in server.load.loading for server in held)
        line = waiting + sum(
            max(0, in_flight(server, model) - server.endpoint.parallel) for server in held
        )
        if wait is None or worth_loading(wait, line, load, loading=loading):
            alike = [place.server for place in found if place[:2] == best]
            return Decision(least_loaded(alike, draw), "Cold", *counts, 0, wait, load)
    held = [server for server in preferred if holds(server, model)]
    if not held:
        return Decision(None, "NoSlot", *counts, 0, wait, load)
    if conversation is not None:
        chosen, reason = by_conversation(held, model, *conversation), "Conversation"
    else:
        waits = [wait_for((server,), model, 0, now, estimates) for server in held]
        least = min(waits)
        chosen = least_loaded(
            [server for server, its in zip(held, waits, strict=True) if its == least], draw
        )
        reason = "Loading" if model in chosen.load.loading else "Waits"
    return Decision(chosen, reason, *counts, 0, wait, load)


def can_take(server: Server, tried: Container[str], now: float) -> bool:
    """Ready, not tried before, reachable as far as is known, and not full."""
    load = server.load
    return (
        server.state is READY
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


def by_weight(servers: Sequence[Server], draw: float) -> Server:
    """Each in proportion to its weight; all alike where none has any."""
    weights = [server.endpoint.weight for server in servers]
    return servers[drawn(weights, draw) if any(weights) else int(draw * len(servers))]


def drawn(weights: Sequence[int], draw: float) -> int:
    """The place that `draw`, uniform in [0, 1), falls on where each is as wide as its weight."""
    left = draw * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return len(weights) - 1


def least_loaded(servers: Sequence[Server], draw: float) -> Server:
    """The less loaded of two picked at random, so that routers do not all pick the same one. What
    a server has to do counts in time, as far as its pace is known."""
    count = len(servers)
    if count == 1:
        return servers[0]
    first, second = divmod(int(draw * count * (count - 1)), count - 1)
    second += second >= first
    one, other = servers[first], servers[second]
    return one if _burden(one) <= _burden(other) else other


def _burden(server: Server) -> float:
    load = server.load
    requests = load.in_flight + load.elsewhere + 1
    return requests * load.pace / (server.endpoint.weight or 1)


def _why_none(holders: Sequence[Server], model: str, tried: Container[str]) -> str:
    if not holders:
        return "NoModel"
    ready = [server for server in holders if server.state is READY]
    if not ready:
        return "NoneReady"
    if all(model in server.load.wedged for server in ready):
        return "AllWedged"
    untried = [server for server in ready if server.name not in tried]
    if not untried:
        return "AllTried"
    if all(server.load.in_flight >= MAX_IN_FLIGHT for server in untried):
        return "AllFull"
    return "AllFailing"
