"""The servers' side: a connection to one server, and what arrives on it."""

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING

from ollama_fleet.router.forward import Opening
from ollama_fleet.router.framing import (
    HEAD_END,
    ChunkScanner,
    FramingError,
    Response,
    parse_response,
)

if TYPE_CHECKING:
    from ollama_fleet.router.exchange import Exchange
    from ollama_fleet.router.pool import Pool

HEAD_BYTES = 64 << 10
ONE_WRITE_BYTES = 64 << 10


class _Body(Enum):
    """How the end of the response's body is found."""

    LENGTH = auto()
    CHUNKS = auto()
    CLOSE = auto()


class Upstream:
    """One connection to a server; serves one exchange at a time.

    An `asyncio.Protocol`, whose base a compiled class cannot have.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_left",
        "_paused",
        "_pool",
        "_response",
        "_transport",
        "exchange",
        "idle_since",
        "reused",
    )
    _transport: asyncio.Transport

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._buffer = b""
        self._response: Response | None = None
        self._body = _Body.LENGTH
        self._chunks = ChunkScanner()
        self._left = 0
        self._paused = False
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        self.reused = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The connection is there."""
        self._transport = transport
        self._pool.connections.add(self)

    def send(self, exchange: "Exchange", head: bytes, body: bytes) -> None:
        """Send a request; the exchange hears of whatever comes of it."""
        self.exchange = exchange
        self._response = None
        if len(body) < ONE_WRITE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def abort(self) -> None:
        """Cut the connection at once, which makes the server stop generating."""
        self.exchange = None
        self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self.exchange = None
        self._transport.close()

    @property
    def closing(self) -> bool:
        """Whether the connection is on its way out."""
        return self._transport.is_closing()

    @property
    def opening(self) -> Opening:
        """What begins every request head sent here."""
        return self._pool.opening

    def pause(self) -> None:
        """The client is slow: read no more for now."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """The client has caught up."""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The server takes less than comes; a request's body is all here, and waits."""

    def resume_writing(self) -> None:
        """The server has caught up."""

    def eof_received(self) -> bool:
        """The server will send no more: the connection closes."""
        return False

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer have come."""
        exchange = self.exchange
        if exchange is None:
            # Nobody asked: whatever it is, it would be taken for the next answer.
            self._transport.abort()
            return
        try:
            if self._response is None:
                self._read_head(exchange, data)
            else:
                end = self._read_body(exchange, data, 0)
                if end is not None:
                    self._finish(exchange, end == len(data))
        except FramingError as fault:
            self.exchange = None
            self._transport.abort()
            exchange.lost(fault.sentence, untouched=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: whoever depends on it hears so."""
        self._pool.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if self._response is not None and self._body is _Body.CLOSE and exc is None:
            exchange.finished()
        else:
            untouched = self._response is None and not self._buffer
            exchange.lost("the server closed the connection", untouched=untouched)

    def _read_head(self, exchange: "Exchange", data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        start = 0
        while True:
            end = data.find(HEAD_END, start) + 4
            if end == 3:
                if len(data) - start > HEAD_BYTES:
                    raise FramingError(502, "the server's response head is too long")
                self._buffer = data[start:]
                return
            response = parse_response(data[start:end])
            if response.status >= 200:
                break
            if response.status == 101:
                raise FramingError(502, "the server changed the protocol")
            start = end
        self._response = response
        self._frame(response)
        if not exchange.responded(response):
            self._discard(data, end)
            return
        pieces: list[bytes] = []
        done = self._follow(exchange, data, end, pieces)
        exchange.begin(response, pieces)
        if done is not None:
            self._finish(exchange, done == len(data))

    def _frame(self, response: Response) -> None:
        if response.chunked:
            self._body = _Body.CHUNKS
            self._chunks = ChunkScanner()
        elif response.status in (204, 304):
            self._body, self._left = _Body.LENGTH, 0
        elif response.length is not None:
            self._body, self._left = _Body.LENGTH, response.length
        else:
            self._body = _Body.CLOSE

    def _follow(
        self, exchange: "Exchange", data: bytes, pos: int, pieces: list[bytes]
    ) -> int | None:
        """Collect what of `data` goes to the client; where the body ends, if it does here."""
        size = len(data)
        if self._body is _Body.CHUNKS:
            chunks = self._chunks
            if exchange.rechunks:
                end = chunks.feed(data, pos)
                if end > pos:
                    pieces.append(data if not pos and end == size else data[pos:end])
            else:
                end = chunks.feed(data, pos, pieces)
            return end if chunks.done else None
        if self._body is _Body.LENGTH:
            end = min(size, pos + self._left)
            self._left -= end - pos
            if end > pos:
                pieces.append(data if not pos and end == size else data[pos:end])
            return None if self._left else end
        if size > pos:
            pieces.append(data[pos:])
        return None

    def _read_body(self, exchange: "Exchange", data: bytes, pos: int) -> int | None:
        pieces: list[bytes] = []
        end = self._follow(exchange, data, pos, pieces)
        if pieces:
            exchange.relay_piece(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return end

    def _finish(self, exchange: "Exchange", clean: bool) -> None:
        response = self._response
        assert response is not None
        self.exchange = None
        self.resume()
        if clean and response.keep_alive:
            self._pool.put(self)
        else:
            self._transport.close()
        exchange.finished()

    def _discard(self, data: bytes, pos: int) -> None:
        """The exchange went elsewhere: keep the connection only if the answer ends right here."""
        response, exchange = self._response, self.exchange
        assert response is not None
        self.exchange = None
        if exchange is not None and response.keep_alive and self._body is not _Body.CLOSE:
            try:
                if self._follow(exchange, data, pos, []) == len(data):
                    self._pool.put(self)
                    return
            except FramingError:
                pass
        self._transport.abort()
