"""Who goes next where requests wait: a fair queue between clients, and the rate it moves at. Pure.

The queue is a virtual token counter (Sheng et al., "Fairness in Serving Large Language Models",
OSDI 2024): whoever was served the fewest tokens for its weight goes first, and whoever comes back
starts level with those who wait, so that nobody saves up.
"""

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from math import exp
from typing import Final, Generic, TypeVar

T = TypeVar("T")

RATE_SECONDS: Final = 60.0
_SPARE_ENTRIES: Final = 16


class _Client(Generic[T]):
    """`served` is in tokens per weight; `entry` the serial of its valid entry in the heap."""

    __slots__ = ("entry", "served", "waiting", "weight")

    def __init__(self, served: float, weight: float) -> None:
        self.served = served
        self.weight = weight
        self.entry = 0
        self.waiting: OrderedDict[T, None] = OrderedDict()


class FairQueue(Generic[T]):
    """Items that wait, each for a client. Every step is O(log clients) at most.

    Of one client the first come goes first. Items are told apart by their hash and equality.
    """

    def __init__(self) -> None:
        self._clients: dict[str, _Client[T]] = {}
        self._heap: list[tuple[float, int, _Client[T]]] = []
        self._serial = 0
        self._length = 0
        self._last_taken = 0.0
        # clients by how many of their items wait; the most that any has
        self._by_count: dict[int, dict[str, None]] = {}
        self._most = 0

    def __len__(self) -> int:
        return self._length

    @property
    def clients(self) -> int:
        """How many clients are known, waiting or not."""
        return len(self._clients)

    def add(self, item: T, name: str, weight: float = 1.0) -> None:
        """`item` waits from now on, as the last of the client `name`."""
        client = self._client(name, weight)
        count = len(client.waiting)
        if not count:
            client.served = max(client.served, self._level())
        client.waiting[item] = None
        if not count:
            self._enter(client)
        self._length += 1
        self._counted(name, count, count + 1)

    def remove(self, item: T, name: str) -> None:
        """`item` waits no longer; KeyError where it does not."""
        client = self._clients[name]
        del client.waiting[item]
        count = len(client.waiting)
        if not count:
            client.entry = 0
        self._length -= 1
        self._counted(name, count + 1, count)

    def first(self) -> T | None:
        """Whose turn it is; None where nobody waits."""
        client = self._foremost()
        return None if client is None else next(iter(client.waiting))

    def took(self, item: T, name: str) -> None:
        """`item`, the one that `first` gave, waits no longer as it is being served."""
        self._last_taken = self._clients[name].served
        self.remove(item, name)

    def greediest(self, name: str) -> T:
        """The newest item of the client with the most; of `name` where that one has as many."""
        most = self._by_count[self._most]
        client = self._clients[name if name in most else next(iter(most))]
        return next(reversed(client.waiting))

    def charge(self, name: str, weight: float, tokens: float) -> None:
        """The client was served `tokens` more than was known; fewer where negative."""
        if name not in self._clients and tokens <= 0:
            return
        client = self._client(name, weight)
        client.served += tokens / client.weight
        if client.waiting:
            self._enter(client)

    def position(self, name: str) -> int:
        """The place of the client's newest item if all cost alike, 1 for the next; O(clients)."""
        own = len(self._clients[name].waiting)
        return sum(min(own, len(client.waiting)) for client in self._clients.values())

    def forget(self) -> None:
        """Drop clients of whom nothing is worth keeping: they would come back the same."""
        level = self._level()
        for name, client in list(self._clients.items()):
            if not client.waiting and client.served <= level:
                del self._clients[name]

    def _client(self, name: str, weight: float) -> _Client[T]:
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client(self._level(), weight)
        client.weight = weight
        return client

    def _level(self) -> float:
        """What whoever comes back is lifted to: the least that anybody who waits was served."""
        foremost = self._foremost()
        return self._last_taken if foremost is None else foremost.served

    def _enter(self, client: _Client[T]) -> None:
        """Give a waiting client its place; the entry it had is passed over later."""
        self._serial += 1
        client.entry = self._serial
        heappush(self._heap, (client.served, self._serial, client))
        if len(self._heap) > 2 * len(self._clients) + _SPARE_ENTRIES:
            self._heap = [entry for entry in self._heap if entry[2].entry == entry[1]]
            heapify(self._heap)

    def _foremost(self) -> _Client[T] | None:
        heap = self._heap
        while heap:
            _, serial, client = heap[0]
            if client.entry == serial:
                return client
            heappop(heap)
        return None

    def _counted(self, name: str, before: int, now: int) -> None:
        by_count = self._by_count
        if before:
            del by_count[before][name]
            if not by_count[before]:
                del by_count[before]
        if now:
            by_count.setdefault(now, {})[name] = None
        if now > self._most or self._most not in by_count:
            self._most = now


class Rate:
    """How many a second, over about the last minute; events longer ago count for less."""

    __slots__ = ("_count", "_last", "_since")

    def __init__(self, now: float) -> None:
        self._since = self._last = now
        self._count = 0.0

    def count(self, now: float) -> None:
        """One more, at `now` in seconds."""
        self._count = self._faded(now) + 1
        self._last = now

    def per_second(self, now: float) -> float:
        """The rate; 0 before the first."""
        known = RATE_SECONDS * (1 - exp((self._since - now) / RATE_SECONDS))
        return self._faded(now) / max(known, 1.0)

    def _faded(self, now: float) -> float:
        return self._count * exp((self._last - now) / RATE_SECONDS)
