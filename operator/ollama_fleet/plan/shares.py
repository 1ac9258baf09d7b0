"""Sharing the operator's pulls among ModelDistributions."""

from collections.abc import Mapping, Sequence

TOGETHER = 2
"""How many pulls at once are worth a turn: what ends about together is told together."""


def shares(limit: int, demands: Mapping[str, int], order: Sequence[str]) -> dict[str, int]:
    """How many pulls each may have at once: equal parts of ``limit``, where what one has no use for
    goes to the others. What cannot be divided goes to the first in ``order``, which has them all.

    Where there are not TOGETHER for each, the first ones have so many, or one each if ``limit`` is
    small, and the others none before their turn.
    """
    given = dict.fromkeys(order, 0)
    left = limit
    few = limit < TOGETHER * sum(demands[one] > 0 for one in order)
    while left > 0 and (hungry := [one for one in order if given[one] < demands[one]]):
        part = max(1, min(TOGETHER, limit // 4) if few else left // len(hungry))
        for one in hungry[:left]:
            more = min(part, left, demands[one] - given[one])
            given[one] += more
            left -= more
    return given
