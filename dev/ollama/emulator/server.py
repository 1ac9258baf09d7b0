# ruff: noqa: D102 -- asyncio and httptools name the callbacks
"""A small HTTP/1.1 server on asyncio protocols, cheap enough for thousands of open streams."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote

import httptools
import orjson

Handler = Callable[["Exchange"], Awaitable[None]]

JSON = "application/json; charset=utf-8"
_PHRASES = {int(status): status.phrase for status in HTTPStatus} | {499: ""}


class Disconnected(Exception):  # noqa: N818
    """The client is gone; nothing more can be sent to it."""


class Exchange:
    """One request and its answer."""

    def __init__(self, connection: Connection, method: str, target: bytes) -> None:
        raw_path = target.partition(b"?")[0]
        self.method = method
        self.path = unquote(raw_path.decode("latin-1"))
        self.headers: dict[str, str] = {}
        self.body = b""
        self.keep_alive = True
        self.started = False
        self.ended = False
        self._connection = connection

    @property
    def transport(self) -> asyncio.Transport:
        """The connection's transport."""
        return self._connection.transport

    def send(self, status: int, content: bytes, content_type: str = JSON, head: str = "") -> None:
        """Answer whole. `head` is further header lines, each with its CRLF."""
        if self._connection.gone:
            return
        lines = (
            f"{_status_line(status)}{head}Content-Type: {content_type}\r\n"
            f"Date: {_date()}\r\nContent-Length: {len(content)}\r\n{self._closing()}\r\n"
        )
        body = b"" if self.method == "HEAD" else content
        self.started = self.ended = True
        self.transport.write(lines.encode() + body)

    def send_json(self, status: int, value: object, content_type: str = JSON) -> None:
        """Answer with JSON."""
        self.send(status, orjson.dumps(value), content_type)

    def send_empty(self, status: int, head: str = "") -> None:
        """Answer without a body."""
        if self._connection.gone:
            return
        length = "" if status == HTTPStatus.NO_CONTENT else "Content-Length: 0\r\n"
        self.started = self.ended = True
        self.transport.write(
            f"{_status_line(status)}{head}Date: {_date()}\r\n{length}{self._closing()}\r\n".encode()
        )

    def begin(self, content_type: str, head: str = "") -> None:
        """Start a streamed 200 answer."""
        if self._connection.gone:
            raise Disconnected
        self.started = True
        self.transport.write(
            f"{_status_line(200)}{head}Content-Type: {content_type}\r\nDate: {_date()}\r\n"
            f"Transfer-Encoding: chunked\r\n{self._closing()}\r\n".encode()
        )

    def write(self, *chunks: bytes) -> None:
        """Send chunks of a streamed answer, in one write."""
        if self._connection.gone:
            raise Disconnected
        if len(chunks) == 1:
            self.transport.write(b"%x\r\n%b\r\n" % (len(chunks[0]), chunks[0]))
        else:
            self.transport.write(b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks))

    def end(self) -> None:
        """End a streamed answer."""
        self.ended = True
        if not self._connection.gone:
            self.transport.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Close the connection as a dying server does, whatever was promised."""
        self.ended = True
        self.keep_alive = False
        self.transport.abort()

    def writable(self) -> asyncio.Future[None] | None:
        """A future to wait for while the client reads too slowly; None if it keeps up."""
        return self._connection.writable

    def _closing(self) -> str:
        return "" if self.keep_alive else "Connection: close\r\n"


class Connection(asyncio.Protocol):
    """One client connection: requests are answered one at a time, in order. A client that
    leaves cancels the handler of its request."""

    def __init__(self, handler: Handler, open_connections: set[Connection]) -> None:
        self._handler = handler
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._task: asyncio.Task[None] | None = None
        self._body: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._target = b""
        self.transport: asyncio.Transport
        self.writable: asyncio.Future[None] | None = None
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._open.discard(self)
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.transport.close()
        except httptools.HttpParserError:
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Connection: close\r\n\r\n400 Bad Request"
            )
            self.transport.close()

    def pause_writing(self) -> None:
        self.writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    def on_message_begin(self) -> None:
        self._body = []
        self._headers = {}
        self._target = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        exchange = Exchange(self, self._parser.get_method().decode(), self._target)
        exchange.headers = self._headers
        exchange.body = b"".join(self._body)
        exchange.keep_alive = self._parser.should_keep_alive()
        self._waiting.append(exchange)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        try:
            while self._waiting and not self.gone:
                exchange = self._waiting.popleft()
                await self._handler(exchange)
                if not exchange.ended or not exchange.keep_alive:
                    self.transport.close()
                    return
        finally:
            self._task = None


async def listen(
    handler: Handler, host: str, port: int, backlog: int = 4096
) -> tuple[asyncio.Server, set[Connection]]:
    """Listen; gives the server and the set of its open connections."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(handler, connections), host, port, backlog=backlog
    )
    return server, connections


def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n"


_date_cache = (0, "")


def _date() -> str:
    global _date_cache
    second = int(time.time())
    if _date_cache[0] != second:
        _date_cache = (second, formatdate(second, usegmt=True))
    return _date_cache[1]
