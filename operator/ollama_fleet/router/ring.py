"""A ring for consistent hashing, the same in every router."""

from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from struct import unpack
from typing import Final, TypeVar

POINTS: Final = 256
"""Of a server with the usual weight."""
WEIGHT: Final = 100
MOST_POINTS: Final = 65536

_T = TypeVar("_T")


class Ring:
    """Servers by name on a circle of 2^64 places, each at many points in proportion to its weight.

    The points come from the names alone, so a server that comes or goes moves only the keys that it
    takes or had.
    """

    __slots__ = ("_names", "_points")

    def __init__(self, weights: Mapping[str, int]) -> None:
        wanted = {name: POINTS * weight / WEIGHT for name, weight in weights.items()}
        scale = min(1.0, MOST_POINTS / max(1.0, sum(wanted.values())))
        ring = sorted(
            (point, name)
            for name, count in wanted.items()
            for point in _points(name, max(1, round(count * scale)))
        )
        self._points = [point for point, _ in ring]
        self._names = [name for _, name in ring]

    def find(self, key: int, among: Mapping[str, _T]) -> _T | None:
        """What `among` has for the first of its names at or after `key`, a number of 64 bits; None
        where the ring has none of them."""
        names = self._names
        count = len(names)
        start = bisect_left(self._points, key)
        for index in range(start - count, start):
            found = among.get(names[index])
            if found is not None:
                return found
        return None


@lru_cache(maxsize=64)
def ring_of(weights: tuple[tuple[str, int], ...]) -> Ring:
    """The ring of servers by name and weight; models on the same servers share it."""
    return Ring(dict(weights))


def _points(name: str, count: int) -> list[int]:
    points: list[int] = []
    for number in range(0, count, 8):
        points += unpack(">8Q", blake2b(f"{name}\0{number}".encode()).digest())
    return points[:count]
