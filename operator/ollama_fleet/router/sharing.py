"""Caps that hold across the replicas of a router: what the others do, and what is left to this one.

Replicas tell each other several times a second what they have in flight and how many requests wait.
What the others have in flight counts against a server's cap as one's own does. Counts are late by
the time between two rounds, so a cap may be exceeded for that moment: each replica takes at most
its fraction of what was free in the last round, so `replicas` bursts at the same instant exceed a
cap by `replicas - 1` at most, and one that another replica learns of late by the other's fraction,
`cap / replicas` rounded up. It evens out by itself, as nothing is sent to a server above its cap.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ollama_fleet.router.snapshot import Server, Snapshot, State

STALE_SECONDS: Final = 2.0
TURN_SECONDS: Final = 1.0


class Counts(NamedTuple):
    """What a replica tells: requests by server URL and model, and those that wait by model."""

    in_flight: Mapping[str, Mapping[str, int]]
    waiting: Mapping[str, int]


class Shares:
    """What the other replicas last told, and what follows from it for `own`, this one's name."""

    def __init__(self, own: str) -> None:
        self.own = own
        self._told: dict[str, tuple[float, Counts]] = {}

    @property
    def alone(self) -> bool:
        """Whether no other replica is known."""
        return not self._told

    def told(self, name: str, counts: Counts, now: float) -> None:
        """The replica `name` has told its counts, at `now` in seconds of any clock."""
        self._told[name] = (now, counts)

    def forget(self, name: str) -> None:
        """The replica is gone."""
        self._told.pop(name, None)

    def take_over(self, snapshot: Snapshot, now: float) -> None:
        """End a round: drop what is stale, and give every server's load what the others do there.

        From here the next round's fractions are counted.
        """
        for name, (when, _) in list(self._told.items()):
            if now - when > STALE_SECONDS:
                del self._told[name]
        for server in snapshot.servers:
            load = server.load
            load.others = added(
                counts.in_flight.get(server.endpoint.url, {}) for _, counts in self._told.values()
            )
            load.elsewhere = sum(load.others.values())
            load.before = dict(load.models) if self._told else {}

    def may_take(
        self,
        server: Server,
        model: str,
        holders: Sequence[Server],
        cap: Callable[[Server], int],
        turn: int,
    ) -> bool:
        """Whether this replica may have one more request for `model` at `server` in this round.

        `holders` are all servers with the model. `turn` counts seconds on a clock all replicas
        have in common: slots that cannot be split evenly go round. A clock that is wrong
        delays, and exceeds no cap.
        """
        load = server.load
        before = load.before.get(model, 0)
        free = max(0, cap(server) - before - load.others.get(model, 0))
        if load.models.get(model, 0) >= before - (-free // (1 + len(self._told))):
            return False
        rivals = [name for name, (_, counts) in self._told.items() if counts.waiting.get(model)]
        return not rivals or self._below_share(model, holders, cap, rivals, turn)

    def _below_share(
        self,
        model: str,
        holders: Sequence[Server],
        cap: Callable[[Server], int],
        rivals: list[str],
        turn: int,
    ) -> bool:
        """Others wait too: each of those may have as much, so that none is passed over for ever."""
        ready = [server for server in holders if server.state is State.READY]
        slots = sum(map(cap, ready))
        for name, (_, counts) in self._told.items():
            if name not in rivals:
                slots -= sum(
                    counts.in_flight.get(server.endpoint.url, {}).get(model, 0) for server in ready
                )
        contenders = sorted((*rivals, self.own))
        share, extra = divmod(max(0, slots), len(contenders))
        place = (contenders.index(self.own) - turn) % len(contenders)
        taken = sum(server.load.models.get(model, 0) for server in ready)
        return taken < share + (place < extra)


def added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums by key."""
    total: dict[str, int] = {}
    for one in counts:
        for key, value in one.items():
            total[key] = total.get(key, 0) + value
    return total
