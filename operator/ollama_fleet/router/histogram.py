"""How often a value fell between which bounds."""

from bisect import bisect_left

Bounds = tuple[float, ...]


class Histogram:
    """Counts per bucket, not yet summed up; the last one is for what is above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
