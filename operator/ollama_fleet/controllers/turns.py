"""The operator's limit on pulls at once, shared among those who want them."""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count

from ollama_fleet.controllers.clock import Clock
from ollama_fleet.plan.shares import shares

TURN = 10.0
"""Seconds for which who has got places goes on having them, though others wait: so the plan that
tells of pulls that ended begins the next ones too."""


class Turns:
    """Who may start how many pulls, and who waits for a place."""

    def __init__(self, limit: Callable[[], int], clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._waiting: dict[str, tuple[int, Callable[[], None]]] = {}
        self._served: dict[str, int] = {}
        self._turn = count(1)
        self._began: dict[str, float] = {}

    def places(
        self, owner: str, running: Mapping[str, int], more: int, changed: Callable[[], None]
    ) -> int:
        """How many of the ``more`` pulls that an owner would start it may start now, beside those
        ``running`` by owner. Where it is not all, ``changed`` is called once it may start more."""
        before, _ = self._waiting.pop(owner, (0, changed))
        mine = running.get(owner, 0)
        part = self._parts(running, {owner: more})[owner] - mine
        given = max(0, min(more, part, self._room(running)))
        if given:
            self._served[owner] = next(self._turn)
            if not self._has_turn(owner):
                self._began[owner] = self._clock.monotonic()
        if given < more:
            self._waiting[owner] = (more - given, changed)
        if given < more or more < before:
            # others may have its part: it wants less than it did, or its turn is over
            self.wake({**running, owner: mine + given})
        return given

    def waits(self, owner: str) -> bool:
        """Whether it wants more than it may start."""
        return owner in self._waiting

    def forget(self, owner: str, running: Mapping[str, int]) -> None:
        """It is gone."""
        self._served.pop(owner, None)
        self._began.pop(owner, None)
        if self._waiting.pop(owner, None):
            self.wake(running)

    def wake(self, running: Mapping[str, int]) -> None:
        """There may be more room: whoever has a place now is called, and nobody else, as each that
        is called plans anew."""
        room = self._room(running)
        for owner, part in self._parts(running, {}).items():
            due = min(part - running.get(owner, 0), room)
            if due > 0 and owner in self._waiting:
                room -= due
                self._waiting[owner][1]()

    def _parts(self, running: Mapping[str, int], asked: Mapping[str, int]) -> dict[str, int]:
        """How many pulls each may have at once: those first whose turn it is, then those that have
        waited longest."""
        demands = Counter(running)
        demands.update({owner: wanted for owner, (wanted, _) in self._waiting.items()})
        demands.update(asked)
        order = sorted(
            demands, key=lambda one: (not self._has_turn(one), self._served.get(one, 0), one)
        )
        return shares(self._limit(), demands, order)

    def _has_turn(self, owner: str) -> bool:
        began = self._began.get(owner)
        return began is not None and self._clock.monotonic() - began < TURN

    def _room(self, running: Mapping[str, int]) -> int:
        return self._limit() - sum(running.values())
