"""Sharing the operator's pulls among ModelDistributions."""

from collections.abc import Mapping, Sequence


def shares(limit: int, demands: Mapping[str, int], order: Sequence[str]) -> dict[str, int]:
    """How many pulls each may have at once: equal parts of ``limit``, where what one has no use for
    goes to the others. What cannot be divided goes to the first in ``order``, which has them all.

    Where there is not one for each, the first ones have a quarter of all each: what they pull ends
    about together, and is told together.
    """
    given = dict.fromkeys(order, 0)
    left = limit
    few = limit < sum(demands[one] > 0 for one in order)
    while left > 0 and (hungry := [one for one in order if given[one] < demands[one]]):
        part = max(1, limit // 4 if few else left // len(hungry))
        for one in hungry[:left]:
            more = min(part, left, demands[one] - given[one])
            given[one] += more
            left -= more
    return given
