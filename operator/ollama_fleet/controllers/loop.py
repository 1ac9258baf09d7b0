"""The reconcile loop: one run at a time per object, many objects at once."""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal, NamedTuple

from ollama_fleet.controllers.clock import Clock
from ollama_fleet.kube import Kind, KubeError, Unavailable

log = logging.getLogger(__name__)

Outcome = Literal["ok", "transient", "error"]

FIRST_BACKOFF, LAST_BACKOFF = 1.0, 300.0
LONGEST_JITTER = 3.0
"""Seconds."""
BUSY = 5.0
"""Seconds for which a key counts as busy that was reconciled."""
_HEARTBEAT = 10.0
_QUIET = 30.0
_JUMP = 2.0
"""Seconds by which the time of day may stray before what waits for an hour is looked at again."""


class Key(NamedTuple):
    """The object to reconcile."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile wants next: another run after that many seconds, or none; and how long the
    object is left alone whatever happens meanwhile, as each run of it is a long one."""

    requeue_after: float | None = None
    rest: float = 0.0


class TransientError(Exception):
    """Raised by a reconciler for what will pass by itself: tried again later, no traceback."""


class Loop:
    """Runs `reconcile` for every marked key, again and again until it succeeds.

    `random` gives numbers in [0, 1); `observe(key, outcome, seconds)` hears of every run.
    """

    def __init__(
        self,
        reconcile: Callable[[Key], Awaitable[Result]],
        clock: Clock,
        random: Callable[[], float],
        observe: Callable[[Key, Outcome, float], None] = lambda key, outcome, seconds: None,
        *,
        at_once: int = 32,
        timeout: float = 300.0,
    ) -> None:
        self._reconcile = reconcile
        self._clock = clock
        self._random = random
        self._observe = observe
        self._at_once = at_once
        self._timeout = timeout
        self._wake = asyncio.Event()
        self._heap: list[tuple[float, int, Key]] = []
        self._order = count()
        self._due: dict[Key, float] = {}
        self._not_before: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._again: dict[Key, float] = {}
        self._ran: dict[Key, float] = {}
        self._quiet_until = clock.monotonic()
        self._ahead = self._now_ahead()
        self.last_beat = clock.monotonic()
        """When the loop last looked for work, by the clock's monotonic seconds."""

    def mark(self, key: Key, within: float = 0.0) -> None:
        """Reconcile this key soon, or within so many seconds where that is soon enough; marks
        before and during a run make one run more."""
        due = self._clock.monotonic() + within
        if key in self._running:
            self._again[key] = min(due, self._again.get(key, due))
        else:
            self._schedule(key, max(due, self._soon(key)))

    def busy(self) -> int:
        """How many keys were reconciled of late."""
        since = self._clock.monotonic() - BUSY
        self._ran = {key: ended for key, ended in self._ran.items() if ended > since}
        return len(self._ran)

    def __len__(self) -> int:
        """How many keys are due now or running."""
        now = self._clock.monotonic()
        return len(self._running) + sum(due <= now for due in self._due.values())

    async def run(self) -> None:
        """Work until cancelled; running reconciles are cancelled then, and waited for."""
        try:
            while True:
                self._wake.clear()
                pause = self._start_due()
                await self._clock.wait(self._wake, pause)
        finally:
            running = list(self._running.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _soon(self, key: Key) -> float:
        """Now, but a key that failed or rests is not run again until then however often marked."""
        now = self._clock.monotonic()
        return max(now, self._not_before.get(key, now))

    def _schedule(self, key: Key, due: float) -> None:
        """At `due`, or earlier where that was planned."""
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._wake.set()
        # Replaced entries stay in the heap until they are due, which may be in a day.
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def _start_due(self) -> float:
        """Start what is due; seconds until the next look."""
        now = self.last_beat = self._clock.monotonic()
        self._heed_jumps()
        while self._heap and len(self._running) < self._at_once:
            due, _, key = self._heap[0]
            if self._due.get(key) != due:
                heapq.heappop(self._heap)
                continue
            if due > now:
                return min(due - now, _HEARTBEAT)
            heapq.heappop(self._heap)
            del self._due[key]
            self._running[key] = asyncio.create_task(self._run(key), name=str(key))
        return _HEARTBEAT

    def _heed_jumps(self) -> None:
        """Where the time of day was set, or the machine slept, whatever waits for an hour is due:
        how far off that is was reckoned by the time of before."""
        ahead = self._now_ahead()
        if abs(ahead - self._ahead) <= _JUMP:
            return
        log.info("the time of day has jumped by %+.0f s", ahead - self._ahead)
        self._ahead = ahead
        self._again |= dict.fromkeys(self._running, self._clock.monotonic())
        for key in list(self._due):
            self._schedule(key, self._soon(key))

    def _now_ahead(self) -> float:
        """Seconds by which the time of day is ahead of the monotonic clock."""
        return self._clock.now().timestamp() - self._clock.monotonic()

    async def _run(self, key: Key) -> None:
        began = self._clock.monotonic()
        outcome: Outcome = "ok"
        after: float | None = None
        rest = 0.0
        try:
            async with asyncio.timeout(self._timeout):
                result = await self._reconcile(key)
            rest = result.rest
            after = self._jitter(result.requeue_after)
        except (KubeError, TransientError, TimeoutError) as error:
            transient = not isinstance(error, KubeError) or error.transient
            outcome = "transient" if transient else "error"
            after = self._backoff(key, getattr(error, "retry_after", None))
            self._say(key, error, after)
        except Exception:
            outcome, after = "error", self._backoff(key, None)
            log.exception("%s: failed by a defect; trying again in %.3g s", key, after)
        finally:
            del self._running[key]
        now = self._ran[key] = self._clock.monotonic()
        self._observe(key, outcome, now - began)
        if outcome == "ok":
            self._failures.pop(key, None)
        self._not_before.pop(key, None)
        if blocked := rest if outcome == "ok" else FIRST_BACKOFF:
            self._not_before[key] = now + blocked
        if key in self._again:
            self._schedule(key, max(self._again.pop(key), self._soon(key)))
        if after is not None:
            self._schedule(key, now + max(after, rest))
        self._wake.set()

    def _say(self, key: Key, error: Exception, after: float) -> None:
        """One line; and one a while for all objects together when the API server is away."""
        level = logging.WARNING
        if isinstance(error, Unavailable):
            now = self._clock.monotonic()
            if now < self._quiet_until:
                level = logging.DEBUG
            else:
                self._quiet_until = now + _QUIET
        what = str(error) or "not done in time"
        log.log(level, "%s: %s; trying again in %.3g s", key, what, after)

    def _jitter(self, seconds: float | None) -> float | None:
        """Later than asked by up to a tenth, so that a fleet does not move in step; and by no more
        than LONGEST_JITTER, as it may be the hour at which something has to end."""
        if seconds is None:
            return None
        return max(0.0, seconds) + min(0.1 * max(0.0, seconds), LONGEST_JITTER) * self._random()

    def _backoff(self, key: Key, at_least: float | None) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(LAST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures, 16))
        return max(at_least or 0.0, delay * (0.5 + 0.5 * self._random()))
