"""The servers' side: a connection to one server, and what arrives on it."""

import asyncio
from typing import TYPE_CHECKING, Final

from ollama_fleet.router.chunks import ChunkScanner
from ollama_fleet.router.errors import FramingError
from ollama_fleet.router.forward import request_head
from ollama_fleet.router.framing import BODILESS, HEAD_END, Request, Response, parse_response

if TYPE_CHECKING:
    from ollama_fleet.router.exchange import Exchange
    from ollama_fleet.router.pool import Pool

HEAD_BYTES: Final = 64 << 10
ONE_WRITE_BYTES: Final = 64 << 10


# How the end of a response's body is found.
_LENGTH: Final = 0
_CHUNKS: Final = 1
_CLOSE: Final = 2


class Upstream:
    """One connection to a server; serves one exchange at a time.

    An `asyncio.Protocol`, whose base a compiled class cannot have.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_end",
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
        self._body = _LENGTH
        self._chunks = ChunkScanner()
        self._left = 0
        self._end = -1
        self._paused = False
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        self.reused = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The connection is there."""
        self._transport = transport
        self._pool.connections.add(self)

    def send(self, exchange: "Exchange", request: Request, path: bytes) -> None:
        """Send a request to `path`; the exchange hears of whatever comes of it."""
        self.exchange = exchange
        self._response = None
        body = request.body
        if len(body) < ONE_WRITE_BYTES:
            self._transport.write(request_head(request, path, self._pool.opening, body))
        else:
            self._transport.write(request_head(request, path, self._pool.opening))
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
                piece = self._follow(exchange, data, 0)
                if piece:
                    exchange.relay_piece(piece)
                if self._end >= 0:
                    self._finish(exchange, self._end == len(data))
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
        if self._response is not None and self._body == _CLOSE and exc is None:
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
        exchange.begin(response, self._follow(exchange, data, end))
        if self._end >= 0:
            self._finish(exchange, self._end == len(data))

    def _frame(self, response: Response) -> None:
        if response.chunked:
            self._body = _CHUNKS
            self._chunks = ChunkScanner()
        elif response.status in BODILESS:
            self._body, self._left = _LENGTH, 0
        elif response.length is not None:
            self._body, self._left = _LENGTH, response.length
        else:
            self._body = _CLOSE

    def _follow(self, exchange: "Exchange", data: bytes, pos: int) -> bytes:
        """What of `data` from `pos` goes to the client; sets `_end` if the body ends in it."""
        size = len(data)
        self._end = -1
        if self._body == _CHUNKS:
            chunks = self._chunks
            if not exchange.rechunks:
                pieces: list[bytes] = []
                end = chunks.feed(data, pos, pieces)
                if chunks.done:
                    self._end = end
                return b"".join(pieces)
            end = chunks.feed(data, pos)
            if chunks.done:
                self._end = end
        elif self._body == _LENGTH:
            end = min(size, pos + self._left)
            self._left -= end - pos
            if not self._left:
                self._end = end
        else:
            end = size
        return data[pos:end]

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
        if exchange is not None and response.keep_alive and self._body != _CLOSE:
            try:
                self._follow(exchange, data, pos)
                if self._end == len(data):
                    self._pool.put(self)
                    return
            except FramingError:
                pass
        self._transport.abort()
