"""The client's side of a connection: requests in, in order, and answers out."""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

from ollama_fleet.router.chunks import ChunkScanner
from ollama_fleet.router.errors import Api, FramingError, Refusal, envelope
from ollama_fleet.router.fields import Field
from ollama_fleet.router.framing import HEAD_END, Request, head_fault, parse_request
from ollama_fleet.router.frontage import Frontage
from ollama_fleet.router.status import status_line

if TYPE_CHECKING:
    from ollama_fleet.router.exchange import Exchange

JSON: Final = b"application/json; charset=utf-8"
TEXT: Final = b"text/plain; charset=utf-8"

# The first three are not Final, as tests shorten them.
IDLE_SECONDS = 75.0
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
BODY_RATE: Final = 1 << 10
"""Bytes a second: a body may take as long as at this rate, and `BODY_SECONDS` more."""
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1 << 20
PIPELINE_BYTES: Final = 64 << 10
PART_BYTES: Final = 4 << 10
SMALL_BODY: Final = 64 << 10
_RESET: Final = struct.pack("ii", 1, 0)  # linger for 0 s: closing resets the connection


# What a connection waits for.
_HEAD: Final = 0
_BODY: Final = 1
_ANSWER: Final = 2
_LINGER: Final = 3
_CLOSED: Final = 4


class Front:
    """One client connection: an `asyncio.Protocol`, whose base a compiled class cannot have."""

    __slots__ = (
        "_advancing",
        "_buffer",
        "_chunks",
        "_frontage",
        "_got",
        "_head_begun",
        "_looked_at",
        "_parts",
        "_phase",
        "_reading_paused",
        "_refusal",
        "_transport",
        "deadline",
        "exchange",
        "request",
        "writing_paused",
    )
    _transport: asyncio.Transport

    def __init__(self, frontage: Frontage) -> None:
        self._frontage = frontage
        self._buffer = b""
        self._phase = _HEAD
        self._advancing = False
        self._head_begun = False
        self._looked_at = 0
        self._reading_paused = False
        self.writing_paused = False
        self._chunks: ChunkScanner | None = None
        self._parts: list[bytes] = []
        self._got = 0
        self._refusal: Refusal | None = None
        self.request: Request | None = None
        self.exchange: Exchange | None = None
        self.deadline = 0.0

    # the connection

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The connection is there."""
        self._transport = transport
        frontage = self._frontage
        self.deadline = frontage.loop.time() + IDLE_SECONDS
        frontage.fronts.add(self)
        if len(frontage.fronts) > frontage.connections:
            self._answer_fault(503, "too many connections are open; try again in a moment")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: whoever depends on it hears so."""
        self._phase = _CLOSED
        frontage = self._frontage
        frontage.fronts.discard(self)
        if frontage.draining and not frontage.fronts:
            frontage.drained.set()
        if self.exchange is not None:
            self.exchange.client_left()

    def eof_received(self) -> bool:
        """The client will send no more."""
        # Ollama takes a half-closed client for gone, and so frees the GPU; so do we.
        return False

    def pause_writing(self) -> None:
        """The client takes less than comes: read less from the server."""
        self.writing_paused = True
        if self.exchange is not None:
            self.exchange.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writing_paused = False
        if self.exchange is not None:
            self.exchange.resume()
        elif self._phase == _HEAD:
            self._resume_reading()
            self._advance()

    def expired(self) -> None:
        """The deadline has passed."""
        if self._phase == _ANSWER and self.exchange is not None:
            self.exchange.expired()
        elif self._phase == _BODY or (self._phase == _HEAD and self._buffer):
            self._answer_fault(408, "the request did not arrive in time")
        elif self._phase == _HEAD:
            self._close()
        else:
            self._transport.abort()

    def drain(self) -> None:
        """Close as soon as nothing is under way."""
        if self._phase == _HEAD and not self._buffer:
            self._close()

    def truncate(self, delimited: bool) -> None:
        """End a broken answer. Where only the connection's end ends the body, reset it instead,
        so that nobody takes what was sent for the whole."""
        if delimited:
            self._close()
        else:
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.abort()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._phase = _CLOSED
        self._transport.abort()

    # requests

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of the next ones, have come."""
        phase = self._phase
        if phase == _ANSWER or (phase == _HEAD and self.writing_paused):
            self._buffer += data
            if len(self._buffer) > PIPELINE_BYTES and not self._reading_paused:
                self._reading_paused = True
                self._transport.pause_reading()
        elif phase == _LINGER:
            self._got += len(data)
            if self._got > LINGER_BYTES:
                self._transport.abort()
        elif phase != _CLOSED:
            self._buffer = self._buffer + data if self._buffer else data
            self._advance()

    def _advance(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        try:
            # whoever does not take its answers is given no more of them
            while (
                not self.writing_paused and self._read_head()
                if self._phase == _HEAD
                else self._read_body()
            ):
                pass
        except FramingError as fault:
            self._answer_fault(fault.status, fault.sentence)
        finally:
            self._advancing = False

    def _read_head(self) -> bool:
        buffer = self._buffer
        if not buffer:
            return False
        frontage = self._frontage
        end = buffer.find(HEAD_END, max(0, self._looked_at - 3)) + 4
        if end > frontage.header_bytes or (end == 3 and len(buffer) > frontage.header_bytes):
            raise FramingError(431, f"the request head is over {frontage.header_bytes} bytes")
        if end == 3:
            if (fault := head_fault(buffer, self._looked_at)) is not None:
                raise fault
            self._looked_at = len(buffer) - 1
            if not self._head_begun:
                self._head_begun = True
                self.deadline = frontage.loop.time() + HEAD_SECONDS
            return False
        request = parse_request(buffer[:end])
        self._buffer = buffer[end:]
        self._head_begun = False
        self._looked_at = 0
        self._begin(request)
        return True

    def _begin(self, request: Request) -> None:
        self.request = request
        if request.upgrade and request.upgrade != b"h2c":
            # An offer of h2c is ignored, as Java's client makes one with every request.
            raise FramingError(501, "only HTTP/1.1 is spoken here; Upgrade is not")
        limit = self._frontage.body_bytes
        if request.length > limit:
            raise FramingError(413, f"the request body is over {limit} bytes")
        try:
            self._frontage.handler.admit(request)
        except Refusal as refusal:
            if request.expects or request.chunked or request.length > SMALL_BODY:
                self._frontage.handler.refused(self, request, refusal)
                self.refuse(refusal, close=True)
                return
            self._refusal = refusal
        self._phase = _BODY
        if request.length or request.chunked:
            self._got = 0
            self.deadline = self._frontage.loop.time() + BODY_SECONDS
            self._chunks = ChunkScanner() if request.chunked else None
            if request.expects and not self._buffer:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _read_body(self) -> bool:
        if self._phase != _BODY:
            return False
        request, buffer = self.request, self._buffer
        assert request is not None
        if self._chunks is not None:
            return self._read_chunks(request, self._chunks)
        missing = request.length - self._got
        if len(buffer) < missing:
            if buffer:
                self._keep(buffer)
                self._buffer = b""
            return False
        if len(buffer) == missing:
            body, self._buffer = buffer, b""
        else:
            body, self._buffer = buffer[:missing], buffer[missing:]
        if self._parts:
            self._parts.append(body)
            body = b"".join(self._parts)
            self._parts.clear()
        self._complete(request, body)
        return True

    def _read_chunks(self, request: Request, chunks: ChunkScanner) -> bool:
        pieces: list[bytes] = []
        end = chunks.feed(self._buffer, 0, pieces)
        self._buffer = self._buffer[end:]
        self._keep(b"".join(pieces))
        limit = self._frontage.body_bytes
        if self._got + chunks.announced > limit:
            raise FramingError(413, f"the request body is over {limit} bytes")
        if not chunks.done:
            return False
        body = b"".join(self._parts)
        self._parts.clear()
        self._complete(request, body)
        return True

    def _keep(self, piece: bytes) -> None:
        """A piece of the body is there: the rest may take a little longer."""
        if not piece:
            return
        # pieces may be tiny, and each by itself takes far more memory than it holds
        if self._parts and len(self._parts[-1]) < PART_BYTES:
            self._parts[-1] += piece
        else:
            self._parts.append(piece)
        self._got += len(piece)
        self.deadline += len(piece) / BODY_RATE

    def _complete(self, request: Request, body: bytes) -> None:
        request.body = body
        self._phase = _ANSWER
        refusal, self._refusal = self._refusal, None
        if refusal is None:
            try:
                self._frontage.handler.handle(self, request)
                return
            except Refusal as raised:
                refusal = raised
        self._frontage.handler.refused(self, request, refusal)
        self.refuse(refusal)

    # answers

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection will serve another request after this one."""
        return self.request is not None and self.request.keep_alive and not self._frontage.draining

    @property
    def address(self) -> str:
        """The client's IP address; empty where it has none."""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def write(self, data: bytes) -> None:
        """Send a piece of an answer."""
        self._transport.write(data)

    def finish(self, keep_alive: bool) -> None:
        """The answer is complete: close, or go on with the next request."""
        if self._phase != _ANSWER:
            return
        if not keep_alive:
            self._close()
            return
        self._phase = _HEAD
        self.request = None
        self.deadline = self._frontage.loop.time() + IDLE_SECONDS
        if not self.writing_paused:
            self._resume_reading()
        if self._buffer:
            self._advance()

    def _resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def answer(
        self,
        status: int,
        body: bytes,
        content_type: bytes = JSON,
        fields: tuple[Field, ...] = (),
        *,
        close: bool = False,
    ) -> None:
        """Answer the current request here, without any server."""
        keep_alive = self.keeps_alive and not close
        head = [status_line(status), b"content-type: " + content_type]
        for name, value in fields:
            head.append(name + b": " + value)
        head.append(b"content-length: %d" % len(body))
        if not keep_alive:
            head.append(b"connection: close")
        without_body = self.request is not None and self.request.method == b"HEAD"
        head += (b"", b"" if without_body else body)
        self._transport.write(b"\r\n".join(head))
        if close:
            self._linger()
        else:
            self.finish(keep_alive)

    def refuse(self, refusal: Refusal, *, close: bool = False) -> None:
        """Answer with a refusal, in the shape of the caller's API."""
        fields = refusal.fields
        if refusal.retry_after:
            fields += ((b"retry-after", str(refusal.retry_after).encode()),)
        if refusal.allow:
            fields += ((b"allow", refusal.allow.encode()),)
        self.answer(
            refusal.status,
            envelope(self._api(), refusal.status, refusal.sentence),
            fields=fields,
            close=close,
        )

    def _answer_fault(self, status: int, sentence: str) -> None:
        self.answer(status, envelope(self._api(), status, sentence), close=True)

    def _api(self) -> Api:
        return Api.OLLAMA if self.request is None else self._frontage.handler.api_of(self.request)

    def _close(self) -> None:
        self._phase = _CLOSED
        # A client that does not take what is left must not hold the connection for ever.
        self.deadline = self._frontage.loop.time() + LINGER_SECONDS * 15
        self._transport.close()

    def _linger(self) -> None:
        """Close, but read a little more, lest a reset overtakes the answer."""
        self._phase = _LINGER
        self._buffer = b""
        self._parts.clear()
        self._got = 0
        self.deadline = self._frontage.loop.time() + LINGER_SECONDS
        if self._transport.can_write_eof():
            self._transport.write_eof()
