"""Whether a request waits where its model is loaded, or loads it somewhere else. Pure.

Everything is weighed in seconds that requests wait. Waiting costs what is left of a load under way
and the time until a slot is free, for all who stand in the line. A load costs itself; where a model
has to go for it, also the load that brings that one back, for each of its requests; and where that
one is answering, the time until it has done so, as Ollama waits for it.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ollama_fleet.router.estimates import Estimates
from ollama_fleet.router.snapshot import Loaded, Server, in_flight

MARGIN: Final = 2.0
"""How many times as long as a load the wait must be while the model is being loaded elsewhere."""
GROWTH: Final = 1.2
"""How much more memory a model takes than its file has bytes."""


class Place(NamedTuple):
    """A server that would have to load the model, what that costs (seconds), and when the model
    that goes for it would have gone by itself (Unix seconds; 0: none goes). Least is best."""

    seconds: float
    leaves: float
    server: Server


def worth_loading(wait: float, line: int, load: float, *, loading: bool) -> bool:
    """Whether a load of `load` seconds is better than the waits of this request, `wait` seconds,
    and of the `line` of those before it, which are the shorter the nearer they are to their turn.

    While the model is `loading` somewhere already, only by a clear margin: a load under way is
    shared by all who wait for it, a second one takes memory from others for good. It does come
    where one server cannot serve the demand, as the wait then grows without end.
    """
    return wait * (line + 2) / 2 > load * (MARGIN if loading else 1.0)


def holds(server: Server, model: str) -> bool:
    """The model is loaded there without the CPU's help, or being loaded for a request."""
    return model in server.resident or model in server.load.loading


def wait_for(
    servers: Sequence[Server], model: str, waiting: int, now: float, estimates: Estimates
) -> float:
    """Seconds until one of `servers`, which hold the model, would begin to answer one more request,
    with `waiting` requests before it."""
    answer = estimates.answer(model)
    slots = sum(server.endpoint.parallel for server in servers)
    nearest = min(
        _loads_left(server, now, estimates) + answer * _turns(server, model) for server in servers
    )
    return nearest + answer * waiting / slots


def _turns(server: Server, model: str) -> float:
    """How many answers of the usual server pass by until one more request has a slot."""
    slots = server.endpoint.parallel
    return server.load.pace * max(0, in_flight(server, model) + 1 - slots) / slots


def places(servers: Iterable[Server], model: str, now: float, estimates: Estimates) -> list[Place]:
    """What it costs each of `servers`, which do not hold the model, to answer a request for it.

    One that has the model partly on the CPU loads nothing, and is taken to answer half as fast.
    """
    return [
        Place(estimates.answer(model), 0.0, server)
        if model in server.loaded
        else _place(server, model, now, estimates)
        for server in servers
    ]


def _place(server: Server, model: str, now: float, estimates: Estimates) -> Place:
    pace = server.load.pace
    seconds = _loads_left(server, now, estimates) + _load(server, model, estimates)
    # What it takes longer than others for the answer, too.
    seconds += max(0.0, pace - 1.0) * estimates.answer(model)
    victim = _victim(server, model)
    if victim is None:
        return Place(seconds, 0.0, server)
    busy = in_flight(server, victim)
    seconds += _load(server, victim, estimates) * max(1, busy)
    if busy:
        seconds += estimates.answer(victim) * pace
    return Place(seconds, server.load.memory[victim].leaves, server)


def _victim(server: Server, model: str) -> str | None:
    """The model that goes for `model`: an idle one first, then the one that leaves soonest, which
    is the one used least recently, and last one that is to stay. None where there is room: nothing
    is loaded, or the memory was seen with as much more in it as the model takes."""
    memory = server.load.memory
    if not memory or 0 < size_of(server, model) * GROWTH <= server.load.room:
        return None

    def order(item: tuple[str, Loaded]) -> tuple[bool, float]:
        return in_flight(server, item[0]) > 0, item[1].leaves

    return min(memory.items(), key=order)[0]


def _loads_left(server: Server, now: float, estimates: Estimates) -> float:
    """Seconds until the loads under way there are done; one overdue is taken to need as long again
    as it is overdue by."""
    return max(
        (
            abs(since + _load(server, model, estimates) - now)
            for model, since in server.load.loading.items()
        ),
        default=0.0,
    )


def _load(server: Server, model: str, estimates: Estimates) -> float:
    return estimates.load(model, size_of(server, model)) * server.load.pace


def size_of(server: Server, model: str) -> int:
    """Bytes of the model's files there; 0 where unknown."""
    found = server.installed.get(model)
    return found.size if found is not None else 0
