"""When a failing server is left alone, and when it is tried again."""

from enum import IntEnum


class BreakerState(IntEnum):
    """The value is the metric's: 0 closed, 1 half open, 2 open."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Opens after `failures` in a `row`, for `cooldown` seconds, doubling to `max_cooldown`.

    After the cooldown one request at a time may try; its success closes the breaker.
    """

    __slots__ = ("_cooldown", "_failures", "_max_cooldown", "_next", "open_until", "row")

    def __init__(self, failures: int, cooldown: float, max_cooldown: float) -> None:
        self._failures = failures
        self._cooldown = cooldown
        self._max_cooldown = max_cooldown
        self._next = cooldown
        self.row = 0
        self.open_until = 0.0

    def retune(self, failures: int, cooldown: float, max_cooldown: float) -> None:
        """Go by other numbers from now on; what was counted stays."""
        self._failures, self._cooldown, self._max_cooldown = failures, cooldown, max_cooldown
        self._next = min(max(self._next, cooldown), max_cooldown) if self.row else cooldown

    def state(self, now: float) -> BreakerState:
        """The state at `now`, in seconds of the clock that `failed` is told."""
        if self.row < self._failures:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.open_until else BreakerState.HALF_OPEN

    @property
    def next_cooldown(self) -> float:
        """Seconds it will stay open the next time."""
        return self._next

    def failed(self, now: float) -> None:
        """Count a failure."""
        self.row += 1
        if self.row >= self._failures and now >= self.open_until:
            self.open_until = now + self._next
            self._next = min(self._next * 2, self._max_cooldown)

    def trying(self, now: float) -> None:
        """A request was sent: while half open, hold back the others for one more cooldown."""
        if self.row >= self._failures:
            self.open_until = now + self._cooldown

    def may_try(self) -> None:
        """Something else says that it works again: do not wait for the cooldown."""
        self.open_until = 0.0

    def succeeded(self) -> None:
        """Close."""
        self.row = 0
        self._next = self._cooldown
        self.open_until = 0.0
