"""The operator's limit on pulls at once, shared among those who want them."""

from collections.abc import Callable, Mapping
from itertools import count

from ollama_fleet.plan.shares import shares


class Turns:
    """Who may start how many pulls, and who waits for a place."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, tuple[int, Callable[[], None]]] = {}
        self._served: dict[str, int] = {}
        self._turn = count(1)

    def places(
        self, owner: str, running: Mapping[str, int], more: int, changed: Callable[[], None]
    ) -> int:
        """How many of the ``more`` pulls that an owner would start it may start now, beside those
        ``running`` by owner. Where it is not all, ``changed`` is called once there is more room."""
        before, _ = self._waiting.pop(owner, (0, changed))
        demands = dict(running)
        for one, (wanted, _) in self._waiting.items():
            demands[one] = demands.get(one, 0) + wanted
        mine = running.get(owner, 0)
        demands[owner] = mine + more
        order = sorted(demands, key=lambda one: (self._served.get(one, 0), one))
        room = min(shares(self._limit, demands, order)[owner] - mine, self._room(running))
        given = max(0, min(more, room))
        if given:
            self._served[owner] = next(self._turn)
        if given < more:
            self._waiting[owner] = (more - given, changed)
        elif more < before:
            # it wants less than it did: others may have its part
            self.wake()
        return given

    def forget(self, owner: str) -> None:
        """It is gone."""
        self._served.pop(owner, None)
        if self._waiting.pop(owner, None):
            self.wake()

    def wake(self) -> None:
        """There is more room: who waits looks again."""
        for _, changed in list(self._waiting.values()):
            changed()

    def _room(self, running: Mapping[str, int]) -> int:
        return self._limit - sum(running.values())
