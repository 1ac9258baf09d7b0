"""A request's way from a client to the best server and back, retried while nobody can notice."""

import logging
from collections import deque
from collections.abc import Sequence
from random import random
from typing import Final

from ollama_fleet.router.call import Call
from ollama_fleet.router.choose import Decision, choose
from ollama_fleet.router.counted import Counted
from ollama_fleet.router.denial import denies, told_to_clients, told_to_operators
from ollama_fleet.router.errors import Refusal
from ollama_fleet.router.estimates import load_seconds_of
from ollama_fleet.router.fields import Field
from ollama_fleet.router.forward import response_head
from ollama_fleet.router.framing import BODILESS, Response
from ollama_fleet.router.front import Front
from ollama_fleet.router.pool import Pool
from ollama_fleet.router.relay import Relay
from ollama_fleet.router.sentences import none_left, not_begun, unreachable
from ollama_fleet.router.snapshot import Server
from ollama_fleet.router.upstream import Upstream
from ollama_fleet.router.usage import tail_of, usage_of

log = logging.getLogger(__name__)

BUSY_SECONDS = 1.0
_FOREVER: Final = float("inf")
_PIECES_FOR_USAGE: Final = 4


class Exchange:
    """One request, from its first byte to its accounting."""

    __slots__ = (
        "_call",
        "_delimited",
        "_end_by",
        "_fresh_tried",
        "_front",
        "_pieces",
        "_relay",
        "_server",
        "_tried",
        "_unreached",
        "_upstream",
        "attempt",
        "rechunks",
        "waiting_since",
    )

    def __init__(self, relay: Relay, front: Front, call: Call) -> None:
        self._relay = relay
        self._front = front
        self._call = call
        self._server: Server | None = None
        self._upstream: Upstream | None = None
        self._tried: tuple[str, ...] = ()
        self._fresh_tried = False
        self._unreached = 0
        self._pieces: deque[bytes]
        self._delimited = True
        total = relay.settings.total
        self._end_by = call.started + total if total else _FOREVER
        self.attempt = 0
        self.waiting_since = 0.0
        self.rechunks = call.request.minor == 1
        front.exchange = self
        call.front = front
        relay.exchanges += 1

    @property
    def call(self) -> Call:
        """What is asked."""
        return self._call

    @property
    def phase(self) -> str:
        """What it waits for, in a word."""
        if self._call.began:
            return "answering"
        if self._upstream is not None:
            return "asked"
        if self.waiting_since:
            return "queued"
        return "connecting" if self._server is not None else "choosing"

    @property
    def at(self) -> Server | None:
        """The server that has been sent the request, while it has it."""
        return self._server if self._upstream is not None else None

    # choosing and asking

    def start(self) -> None:
        """Choose a server and send it the request, at once or when it is its turn."""
        decision = self.choose()
        if decision.server is None and decision.reason != "NoSlot":
            self._refuse(none_left(decision, self._call.name, self._relay.settings))
        elif decision.server is None or (
            self._call.model in self._relay.admission.lines and not self._call.route.shows
        ):
            self._relay.admission.enter(self)
        else:
            self._ask(decision)

    def _choose(self, strategy: str = "") -> Decision:
        relay, call, model = self._relay, self._call, self._call.model
        snapshot = relay.fleet.snapshot
        holders = snapshot.holders.get(model, ())
        strategy = strategy or relay.settings.strategy
        key = call.conversation
        line = relay.admission.lines.get(model)
        return choose(
            holders,
            model,
            self._tried,
            relay.loop.time(),
            random(),  # noqa: S311
            strategy,
            relay.turn(model) if strategy == "RoundRobin" and holders else 0,
            cap=None if call.route.shows else relay.admission.cap,
            waiting=len(line) if line is not None else 0,
            conversation=None if key is None else (snapshot.ring(model), key),
            loads=not call.route.shows,
            estimates=relay.estimates,
        )

    def _ask(self, decision: Decision) -> None:
        server = decision.server
        assert server is not None
        relay, call = self._relay, self._call
        relay.accounting.decided(server, decision.reason, call.started)
        call.decision = decision
        call.server = self._server = server
        call.attempts += 1
        self._tried += (server.name,)
        load = server.load
        load.acquire(call.model)
        call.asked = relay.loop.time()
        call.loads = False
        if call.model not in server.loaded and not call.route.shows:
            call.loads = call.model not in load.loading
            load.loading.setdefault(call.model, call.asked)
        if load.breaker.row:
            load.breaker.trying(call.asked)
        if load.faults and (fault := load.faults.get(call.model)) is not None:
            fault.trying(call.asked)
        pool = relay.pool(server)
        upstream = pool.take()
        if upstream is None:
            self._connect(pool)
        else:
            self.connected(upstream)

    def _connect(self, pool: Pool) -> None:
        self.attempt += 1
        self._front.deadline = _FOREVER  # connecting has its own time limit
        self._relay.connect(self, pool)

    def connected(self, upstream: Upstream) -> None:
        """There is a connection: send the request on it."""
        assert self._server is not None
        self._upstream = upstream
        self._call.sent = now = self._relay.loop.time()
        self._wait(self._relay.settings.first_byte, now)
        upstream.send(self, self._call.request, self._call.route.path)

    def connect_failed(self) -> None:
        """The server cannot be reached."""
        assert self._server is not None
        self._server.load.breaker.failed(self._relay.loop.time())
        self._unreached += 1
        self._elsewhere("ConnectFailure")

    def lost(self, why: str, *, untouched: bool) -> None:
        """The connection broke; `untouched`: not one byte of a response had come."""
        upstream, self._upstream = self._upstream, None
        server = self._server
        assert upstream is not None
        assert server is not None
        if self._call.began:
            log.warning("%s broke off an answer with %s: %s", server.name, self._call.name, why)
            self._truncate("BrokenStream")
            return
        if untouched and upstream.reused and not self._fresh_tried:
            # Most likely closed by the server while idle: not a failure, and no retry.
            self._fresh_tried = True
            self._connect(self._relay.pool(server))
            return
        server.load.breaker.failed(self._relay.loop.time())
        self._elsewhere("ConnectFailure")

    def wedged(self) -> bool:
        """The server will never answer: ask another one, if possible where the model is in memory.

        Without another one the request is taken back, and true returned: `again` sends it.
        """
        if self._relay.settings.attempts < 2:
            return False
        decision = self._choose("LeastLoad")
        self._relay.accounting.retried(self._call, "Wedged")
        self._stop()
        if decision.server is None and decision.reason != "NoSlot":
            return True
        self._proceed(decision)
        return False

    def again(self) -> None:
        """Begin anew, unless the client has left meanwhile."""
        if self._front.exchange is self:
            self._tried = ()
            self._unreached = 0
            self.start()

    def _elsewhere(self, cause: str) -> None:
        """The server is out of the question: another one, or the end."""
        self._release()
        decision = self._retry(cause)
        if decision is None:
            self._refuse(unreachable(self._call.name, len(self._tried)))
        else:
            self._proceed(decision)

    def _retry(self, cause: str) -> Decision | None:
        settings = self._relay.settings
        asked = len(self._tried) - self._unreached
        if asked >= settings.attempts or cause not in settings.retry_on:
            return None
        decision = self.choose()
        if decision.server is None and not (
            decision.reason == "NoSlot" and self._relay.admission.may_wait_again(self._call)
        ):
            return None
        self._relay.accounting.retried(self._call, cause)
        return decision

    def _proceed(self, decision: Decision) -> None:
        if decision.server is None:
            self._relay.admission.enter_again(self)
        else:
            self._ask(decision)

    # waiting for a slot

    def choose(self) -> Decision:
        """Where the request may go now, if anywhere. Showing a model takes no slot."""
        decision = self._choose()
        server, call = decision.server, self._call
        if server is None or call.route.shows or self._relay.admission.may_take(server, call.model):
            return decision
        return Decision(None, "NoSlot", decision.holders, decision.ready, decision.preferred)

    @property
    def address(self) -> str:
        """The client's IP address."""
        return self._front.address

    def waits(self, seconds: float) -> None:
        """From now on the request waits for a slot, `seconds` at most (0: for ever)."""
        self.waiting_since = now = self._relay.loop.time()
        self._wait(seconds, now)

    def admitted(self, decision: Decision) -> None:
        """It is its turn."""
        self._waited()
        self._ask(decision)

    def turned_away(self, refusal: Refusal) -> None:
        """It shall wait no longer."""
        self._waited()
        self._refuse(refusal)

    def _waited(self) -> None:
        self._call.waited += self._relay.loop.time() - self.waiting_since
        self.waiting_since = 0.0

    # answering

    def responded(self, response: Response) -> bool:
        """A response head has come; False where the request goes to another server instead."""
        status = response.status
        server = self._server
        assert server is not None
        load = server.load
        if status < 300 or (
            status < 500 and not denies(status, self._call.request, server.endpoint)
        ):
            load.succeeded(self._call.model)
            return True
        load.breaker.succeeded()
        now = self._relay.loop.time()
        if status == 503:
            load.busy_until = now + BUSY_SECONDS
        else:
            load.fault(self._call.model).failed(now)
        denied = status < 500
        if denied:
            log.warning("%s", told_to_operators(server.name, status, server.endpoint))
        elif status not in (502, 503):
            return True
        decision = self._retry_busy() if status == 503 else self._retry("502")
        if decision is None and not denied:
            return True
        self._upstream = None
        self._release()
        # The server's connection is dealt with first, then the request goes on.
        if decision is None:
            self._relay.loop.call_soon(self._denied, self._mark(), status)
        else:
            self._relay.loop.call_soon(self._go_on, self._mark())
        return False

    def _retry_busy(self) -> Decision | None:
        settings = self._relay.settings
        return self._retry("Busy" if "Busy" in settings.retry_on else "503")

    def _mark(self) -> int:
        self.attempt += 1
        return self.attempt

    def _go_on(self, mark: int) -> None:
        if self.attempt == mark:
            self._proceed(self.choose())  # the slot found before may have been taken since

    def _denied(self, mark: int, status: int) -> None:
        if self.attempt == mark:
            self._refuse(told_to_clients(self._call.name, status))

    def begin(self, response: Response, body: bytes) -> None:
        """Send the head to the client, and with it what has come of the body."""
        front, call = self._front, self._call
        call.status = response.status
        call.began = self._relay.loop.time()
        server = self._server
        if server is not None and server.load.loading and not call.route.shows:
            self._relay.loaded(server, call.model, worked=response.status == 200)
        self._delimited = (
            response.length is not None
            or (response.chunked and self.rechunks)
            or response.status in BODILESS
        )
        if not self._delimited:
            call.request.keep_alive = False
        call.streamed = response.streams
        extra = self._explanation()
        gate = self._relay.gate
        # not before: many requests wait
        if gate is None:
            self._pieces = deque((body,), _PIECES_FOR_USAGE)
        else:
            extra = (*extra, *gate.fields(call))
            self._pieces = Counted(call, _PIECES_FOR_USAGE)
            self._pieces.append(body)
        message = response_head(
            response, extra, chunked=self.rechunks, keep_alive=front.keeps_alive, body=body
        )
        call.bytes_out = len(body)
        front.write(message)
        self._wait(self._relay.settings.idle, call.began)
        if front.writing_paused:
            self.pause()

    def relay_piece(self, piece: bytes) -> None:
        """Send a piece of the body on."""
        self._pieces.append(piece)
        self._call.bytes_out += len(piece)
        self._front.write(piece)
        self._wait(self._relay.settings.idle, self._relay.loop.time())

    def finished(self) -> None:
        """The answer is complete."""
        front, call = self._front, self._call
        self._upstream = None
        self._release()
        if call.status == 200 and not call.route.shows:
            tail = tail_of(self._pieces)
            call.tokens_in, call.tokens_out = usage_of(tail, call.route.counts)
            if call.loads:
                call.load_seconds = load_seconds_of(tail)
        keep_alive = front.keeps_alive
        self._over()
        front.finish(keep_alive)

    # ending early

    def client_left(self) -> None:
        """The client is gone: have the server stop at once, whether or not it has begun."""
        self._stop()
        self._over("ClientLeft")

    def expired(self) -> None:
        """The deadline has passed; a load may be in progress there, so no other server is asked."""
        waited = self.waiting_since
        self._stop()
        if waited:
            self._refuse(self._relay.admission.timed_out(self._call))
            return
        if self._call.began:
            self._truncate("IdleTimeout")
        else:
            self._refuse(not_begun(self._call.name))

    def pause(self) -> None:
        """The client is slow."""
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """The client has caught up."""
        if self._upstream is not None:
            self._upstream.resume()

    def _wait(self, seconds: float, now: float) -> None:
        until = now + seconds if seconds else _FOREVER
        self._front.deadline = until if until < self._end_by else self._end_by

    def _truncate(self, reason: str) -> None:
        self._release()
        front = self._front
        self._over(reason)
        front.truncate(self._delimited)

    def _refuse(self, refusal: Refusal) -> None:
        front = self._front
        self._call.status = refusal.status
        self._over(refusal.reason)
        front.refuse(refusal)

    def _stop(self) -> None:
        self.attempt += 1
        if self.waiting_since:
            self._relay.admission.leave(self)
            self._waited()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        self._release()

    def _release(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.load.release(self._call.model)
            self._relay.admission.freed(self._call.model)

    def _over(self, reason: str = "") -> None:
        self._front.exchange = None
        self._call.reason = reason
        self._relay.over(self._call)

    def _explanation(self) -> Sequence[Field]:
        server, call = self._server, self._call
        if not call.request.explains or call.decision is None or server is None:
            return ()
        told = f"{call.decision.explain()}; attempt {call.attempts}, queued {call.waited:.3f} s"
        fields = (
            (b"x-ollama-fleet-server", server.name.encode()),
            (b"x-ollama-fleet-decision", told.encode()),
        )
        if not self._call.position:
            return fields
        return (*fields, (b"x-ollama-fleet-queue-position", b"%d" % self._call.position))
