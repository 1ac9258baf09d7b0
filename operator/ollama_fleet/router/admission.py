"""Who is sent to a server now, who waits for a slot, and who is turned away.

A server gets as many requests for a model at a time as it answers at a time. Whoever finds no slot
waits here as plain data: no task, no timer, no thread. What ends a wait is a slot that is
released, a changed snapshot, news of other replicas, or the tick, which sees to the rest.
"""

from math import ceil
from time import time
from typing import TYPE_CHECKING, Final

from ollama_fleet.router.accounting import SECONDS
from ollama_fleet.router.errors import Refusal
from ollama_fleet.router.histogram import Histogram
from ollama_fleet.router.sharing import TURN_SECONDS, Shares
from ollama_fleet.router.waiting import FairQueue, Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ollama_fleet.router.call import Call
    from ollama_fleet.router.choose import Decision
    from ollama_fleet.router.exchange import Exchange
    from ollama_fleet.router.relay import Relay
    from ollama_fleet.router.snapshot import Server

OUTPUT_WEIGHT: Final = 2.0
"""What a token given out costs of one taken in, as the paper counts them."""
FIRST_GUESS: Final = 256.0
KEPT_SECONDS: Final = 60.0
LONGEST_RETRY: Final = 600
UNKNOWN_RETRY: Final = 5
_LEARNING: Final = 0.2


class Line:
    """Those who wait for one model. `again`: requests that come back from a server, before all."""

    __slots__ = ("again", "fair", "rate", "typical", "used", "woken")

    def __init__(self, now: float) -> None:
        self.fair: FairQueue[Exchange] = FairQueue()
        self.again: list[Exchange] = []
        self.rate = Rate(now)
        self.typical = FIRST_GUESS
        self.used = now
        self.woken = False

    def __len__(self) -> int:
        return len(self.fair) + len(self.again)

    def over(self, call: "Call", now: float) -> None:
        """Replace the estimate that a call was charged by what it was served."""
        if not call.attempts:
            return
        self.rate.count(now)
        if call.tokens_in is not None or call.tokens_out is not None:
            cost = (call.tokens_in or 0) + OUTPUT_WEIGHT * (call.tokens_out or 0)
            self.typical += _LEARNING * (cost - self.typical)
        else:
            # an error costs nothing; an answer without its end costs what was thought
            cost = 0.0 if call.status >= 400 else call.estimate or self.typical
        if who := call.queued_as or call.client:
            self.fair.charge(who, call.weight, cost - call.estimate)

    def retry_after(self, now: float) -> int:
        """Seconds until whoever comes now would have had its turn, at the measured rate."""
        rate = self.rate.per_second(now)
        if not rate:
            return UNKNOWN_RETRY
        return min(LONGEST_RETRY, max(1, ceil((len(self) + 1) / rate)))


class Admission:
    """The caps, and a line for each model of which some request found no slot lately."""

    def __init__(self, relay: "Relay", shares: Shares) -> None:
        self._relay = relay
        self._shares = shares
        self.lines: dict[str, Line] = {}
        self.waits: dict[str, Histogram] = {}
        self.held_back: Callable[[], None] = lambda: None
        """Called where only late news of other replicas keeps a request from a free slot."""
        relay.fleet.on_change(self.freed_any)

    def cap(self, server: "Server") -> int:
        """How many requests for one model the server is given at a time."""
        return self._relay.settings.per_server or server.endpoint.parallel

    def may_take(self, server: "Server", model: str) -> bool:
        """Whether the other replicas leave this one a slot of `server`."""
        if self._shares.alone:
            return True
        holders = self._relay.fleet.snapshot.holders.get(model, ())
        turn = int(time() / TURN_SECONDS)
        if self._shares.may_take(server, model, holders, self.cap, turn):
            return True
        self.held_back()
        return False

    def waiting(self) -> dict[str, int]:
        """How many requests wait, by model."""
        return {model: len(line) for model, line in self.lines.items() if len(line)}

    def enter(self, exchange: "Exchange") -> None:
        """Send the request on if it is its turn and there is a slot; else it waits.

        Where more wait than may, the newest of the client with the most is turned away.
        """
        call = exchange.call
        now = self._relay.loop.time()
        line = self._line(call.model, now)
        name = call.queued_as = call.client or exchange.address
        line.fair.add(exchange, name, call.weight)
        exchange.waits(self._relay.settings.queue_timeout)
        self._serve(line)
        if not exchange.waiting_since:
            return
        line.used = now
        if call.request.explains:
            call.position = len(line.again) + line.fair.position(name)
        if len(line) > self._relay.settings.queue_size:
            away = line.fair.greediest(name)
            line.fair.remove(away, away.call.queued_as)
            away.turned_away(self._full(away.call, line, now))

    def may_wait_again(self, call: "Call") -> bool:
        """Whether a request that comes back from a server may wait for another one."""
        settings = self._relay.settings
        line = self.lines.get(call.model)
        if (0 if line is None else len(line)) >= settings.queue_size:
            return False
        return not settings.queue_timeout or call.waited < settings.queue_timeout

    def enter_again(self, exchange: "Exchange") -> None:
        """A request that comes back from a server waits before all others, for what is left."""
        call = exchange.call
        line = self._line(call.model, self._relay.loop.time())
        line.again.append(exchange)
        timeout = self._relay.settings.queue_timeout
        exchange.waits(timeout and max(0.001, timeout - call.waited))
        self.freed(call.model)

    def leave(self, exchange: "Exchange") -> None:
        """The request waits no longer: its client is gone, or its time is over."""
        line = self.lines[exchange.call.model]
        if exchange in line.again:
            line.again.remove(exchange)
        else:
            line.fair.remove(exchange, exchange.call.queued_as)

    def freed(self, model: str) -> None:
        """A slot for `model` may be free: see to it, once what is under way is accounted for."""
        line = self.lines.get(model)
        if line is not None and not line.woken and len(line):
            line.woken = True
            self._relay.loop.call_soon(self._wake, line)

    def freed_any(self) -> None:
        """Slots may be free, for whatever reason."""
        for model in self.lines:
            self.freed(model)

    def over(self, call: "Call") -> None:
        """A call is over, however it ended."""
        line = self.lines.get(call.model)
        if line is not None:
            line.over(call, call.ended)

    def tick(self, now: float) -> None:
        """Look at every line again, as cooldowns end by themselves; drop the unused ones."""
        for model, line in list(self.lines.items()):
            if len(line):
                line.fair.forget()
                self.freed(model)
            elif now - line.used > KEPT_SECONDS:
                del self.lines[model]

    def timed_out(self, call: "Call") -> Refusal:
        """What is said to whoever has waited for too long, when it has left the line."""
        after = self.lines[call.model].retry_after(self._relay.loop.time())
        sentence = (
            f"waited {_seconds(call.waited)} s, but no server with '{call.name}' had a slot free; "
            f"try again in {after} s"
        )
        return Refusal(503, sentence, reason="QueueTimeout", retry_after=after)

    def _line(self, model: str, now: float) -> Line:
        line = self.lines.get(model)
        if line is None:
            line = self.lines[model] = Line(now)
        return line

    def _full(self, call: "Call", line: Line, now: float) -> Refusal:
        after = line.retry_after(now)
        waiting = len(line)
        count = f"{waiting} request{'s' if waiting > 1 else ''}"
        others = f" and {count} wait{'' if waiting > 1 else 's'} already" if waiting else ""
        sentence = f"every server with '{call.name}' is busy{others}; try again in {after} s"
        return Refusal(503, sentence, reason="QueueFull", retry_after=after)

    def _wake(self, line: Line) -> None:
        line.woken = False
        self._serve(line)

    def _serve(self, line: Line) -> None:
        for exchange in list(line.again):
            decision = self._decide(exchange)
            if decision is not None:
                line.again.remove(exchange)
                self._admit(exchange, decision)
        # None of these was anywhere yet: where there is no slot for one, there is for none.
        while (first := line.fair.first()) is not None:
            decision = self._decide(first)
            if decision is None:
                return
            call = first.call
            line.fair.took(first, call.queued_as)
            call.estimate = line.typical
            line.fair.charge(call.queued_as, call.weight, call.estimate)
            self._admit(first, decision)

    def _decide(self, exchange: "Exchange") -> "Decision | None":
        """Where a waiting request may go; None while nowhere."""
        decision = exchange.choose()
        server = decision.server
        # whoever has just said that it is busy would only say so again
        if server is None or self._relay.loop.time() < server.load.busy_until:
            return None
        return decision

    def _admit(self, exchange: "Exchange", decision: "Decision") -> None:
        exchange.admitted(decision)
        model = exchange.call.model
        histogram = self.waits.get(model)
        if histogram is None:
            histogram = self.waits[model] = Histogram(SECONDS)
        histogram.observe(exchange.call.waited)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}"
