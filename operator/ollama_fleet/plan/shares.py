"""Sharing the operator's pulls among ModelDistributions."""

from collections.abc import Mapping, Sequence


def shares(limit: int, demands: Mapping[str, int], order: Sequence[str]) -> dict[str, int]:
    """How many pulls each may have at once: equal parts of ``limit``, where what one has no use for
    goes to the others. What cannot be divided goes to the first in ``order``, which has them all.
    """
    given = dict.fromkeys(order, 0)
    left = limit
    while left > 0 and (hungry := [one for one in order if given[one] < demands[one]]):
        part = max(1, left // len(hungry))
        for one in hungry[:left]:
            more = min(part, demands[one] - given[one])
            given[one] += more
            left -= more
    return given
