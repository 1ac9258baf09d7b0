"""A pull's progress, added up over its layers. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque

from ollama_fleet.ollama.wire import PullProgress

WINDOW_SECONDS = 10.0


class Progress:
    """Bytes, speed and time left of one pull.

    `expected` is the sum of all layers' sizes in bytes if known (from the manifest): Ollama
    names a layer only once it begins it, so without it the total grows as the pull goes on.
    """

    def __init__(self, expected: int = 0) -> None:
        self._expected = expected
        self._layers: dict[str, tuple[int, int]] = {}
        self._received = 0
        self._samples: deque[tuple[float, int]] = deque()

    def observe(self, line: PullProgress, now: float) -> None:
        """Take one line of the pull, seen at `now` (seconds, any monotonic clock)."""
        if not line.digest:
            return
        known = self._layers.get(line.digest)
        self._layers[line.digest] = (line.completed, line.total)
        if known is not None:
            # What a layer begins with was on disk already and is no part of the speed.
            self._received += line.completed - known[0]
        self._samples.append((now, self._received))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def completed(self) -> int:
        """Bytes on the server's disk."""
        return sum(completed for completed, _ in self._layers.values())

    @property
    def total(self) -> int:
        """Bytes in all, as far as known."""
        return max(self._expected, sum(total for _, total in self._layers.values()))

    @property
    def received(self) -> int:
        """Bytes that came over the net."""
        return self._received

    @property
    def fraction(self) -> float:
        """Between 0 and 1; 0 while nothing is known."""
        return min(1.0, self.completed / self.total) if self.total else 0.0

    def speed(self, now: float) -> float:
        """Bytes per second over the last ten seconds; falls to 0 as a pull stands still."""
        if not self._samples:
            return 0.0
        begin = now - WINDOW_SECONDS
        first_time, first_bytes = next(
            (sample for sample in self._samples if sample[0] >= begin), self._samples[-1]
        )
        elapsed = now - first_time
        received = self._received - first_bytes
        return max(0.0, received / elapsed) if elapsed > 0 else 0.0

    def eta(self, now: float) -> float | None:
        """Seconds left at the present speed; None while it stands still or nothing is known."""
        speed = self.speed(now)
        return (self.total - self.completed) / speed if self.total and speed > 0 else None
