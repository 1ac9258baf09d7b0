"""Quotas: how much a client used in the last minute, and whether it may have more."""

from collections import deque
from dataclasses import dataclass
from math import floor
from typing import Final, NamedTuple

MINUTE: Final = 60


class Limits(NamedTuple):
    """What a client may use of one router; None: no limit."""

    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None

    def shared(self, replicas: int) -> "Limits":
        """What each of so many routers gives of these, rounded down, and at least 1."""
        return Limits(
            _share(self.requests, replicas),
            _share(self.tokens, replicas),
            _share(self.concurrent, replicas),
        )


def _share(limit: int | None, replicas: int) -> int | None:
    return None if limit is None else max(1, limit // replicas)


@dataclass(frozen=True, slots=True)
class Exceeded:
    """Which limit is reached, and in how many seconds there is room again."""

    kind: str
    limit: int
    wait: float


class Window:
    """What was used in the last 60 seconds, kept by whole seconds.

    A use is forgotten when it is over 60 s old for certain, which is 60 to 61 s after it. So the
    uses that this window counted at any moment include all of the 60 s before it.
    """

    __slots__ = ("_seconds", "_total")

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()
        self._total = 0

    def used(self, now: float) -> int:
        """How much; `now` in seconds, never less than before."""
        seconds, oldest = self._seconds, floor(now) - MINUTE
        while seconds and seconds[0][0] < oldest:
            self._total -= seconds.popleft()[1]
        return self._total

    def add(self, amount: int, now: float) -> None:
        """Count a use."""
        second = floor(now)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1][1] += amount
        else:
            self._seconds.append([second, amount])
        self._total += amount

    def wait(self, limit: int, now: float) -> float:
        """Seconds until less than `limit` is used, if nothing is added."""
        left, until = self.used(now), now
        for second, amount in self._seconds:
            if left < limit:
                break
            left -= amount
            until = float(second + MINUTE + 1)
        return until - now

    def empty_in(self, now: float) -> float:
        """Seconds until nothing is used, if nothing is added."""
        return self._seconds[-1][0] + MINUTE + 1 - now if self.used(now) else 0.0


class Usage:
    """What one client uses."""

    __slots__ = ("concurrent", "requests", "tokens")

    def __init__(self) -> None:
        self.requests = Window()
        self.tokens = Window()
        self.concurrent = 0

    def exceeded(self, limits: Limits, now: float) -> Exceeded | None:
        """What keeps it from another request; None: nothing.

        Tokens are known when an answer is over, so the last of a minute's answers may exceed their
        limit; only then nothing more is admitted.
        """
        if limits.concurrent is not None and self.concurrent >= limits.concurrent:
            return Exceeded("concurrent", limits.concurrent, 1.0)
        for kind, window, limit in (
            ("requests", self.requests, limits.requests),
            ("tokens", self.tokens, limits.tokens),
        ):
            if limit is not None and window.used(now) >= limit:
                return Exceeded(kind, limit, window.wait(limit, now))
        return None

    def begin(self, now: float) -> None:
        """A request is admitted."""
        self.requests.add(1, now)
        self.concurrent += 1

    def end(self, tokens: int, now: float) -> None:
        """It is over, and took so many tokens."""
        # a client whose entry went and came back meanwhile was counted anew
        self.concurrent = max(0, self.concurrent - 1)
        if tokens:
            self.tokens.add(tokens, now)
