"""Raw clients and servers on loopback: every byte is the test's own."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
SECONDS = 10.0


async def eventually(condition: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - many kinds of conditions
            await asyncio.sleep(0.005)


@dataclass
class Exchange:
    """One request at a server, and the way to answer it."""

    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def field(self, name: str) -> bytes | None:
        """The value of a field, or None; fails on two."""
        prefix = name.lower().encode() + b":"
        found = [line for line in self.head.split(b"\r\n")[1:] if line.lower().startswith(prefix)]
        assert len(found) <= 1
        return found[0].partition(b":")[2].strip() if found else None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def cut(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()

    async def left(self) -> None:
        """Wait until the other side has gone."""
        async with asyncio.timeout(SECONDS):
            with suppress(ConnectionError):
                await self.reader.read()


Answer = Callable[[Exchange], Awaitable[None]]


def say(
    body: bytes, status: str = "200 OK", content_type: str = "application/json", more: str = ""
) -> Answer:
    """Answer with a whole body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head.encode() + more.encode() + b"\r\n" + body)

    return answer


HELLO = say(b"hello")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


class Backend:
    """Answers probes as an Ollama with `models`, and anything else as the test says."""

    def __init__(self, answer: Answer, settings: dict[str, Any]) -> None:
        self.answer = answer
        self.models: list[str] = settings.pop("models", ["m:latest"])
        self.resident: list[str] = settings.pop("resident", [])
        self.version = settings.pop("version", "0.35.1")
        self.listing: bytes | None = None
        """What it says of its memory, instead of what is there."""
        self.settings = settings
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: nobody listens any more, and every connection is cut."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        counted = False
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                exchange = Exchange(head, b"", reader, writer)
                exchange.body = await reader.readexactly(int(exchange.field("content-length") or 0))
                if head.startswith(b"GET "):
                    await self._probed(exchange)
                else:
                    self.connections += not counted
                    counted = True
                    self.exchanges.append(exchange)
                    await self.answer(exchange)
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _probed(self, exchange: Exchange) -> None:
        path = exchange.head.split(b" ")[1]
        body: dict[str, Any] = {"version": self.version}
        if path == b"/api/tags":
            body = {"models": [entry(name) for name in self.models]}
        elif path == b"/api/ps":
            body = {"models": [entry(name) | {"size_vram": 100} for name in self.resident]}
        listing = self.listing if path == b"/api/ps" else None
        await say(listing or json.dumps(body).encode())(exchange)


def entry(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-03-01T12:00:00Z",
        "size": 100,
        "digest": "d" * 64,
        "details": {"parent_model": "/root/.ollama/models/blobs/x", "family": "llama"},
    }


@dataclass
class Reply:
    """A response as a client read it. `whole`: it ended as its framing says."""

    status: int
    fields: dict[str, str]
    body: bytes
    whole: bool = True


class Client:
    """One raw connection."""

    live: ClassVar[list["Client"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.live.append(self)

    @classmethod
    async def connect(cls, port: int, **options: Any) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port, **options))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def ask(self, body: bytes = CHAT, path: str = "/api/chat", more: str = "") -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: fleet\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self.send(head.encode() + body)

    async def reply(self, *, has_body: bool = True) -> Reply:
        """Read one response, strictly."""
        async with asyncio.timeout(SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *lines = head[:-4].decode("latin-1").split("\r\n")
            fields = {}
            for one in lines:
                name, _, value = one.partition(": ")
                assert name not in fields
                fields[name.lower()] = value
            reply = Reply(int(line.split(" ")[1]), fields, b"")
            if not has_body:
                return reply
            try:
                if fields.get("transfer-encoding") == "chunked":
                    reply.body = await self._chunks()
                elif "content-length" in fields:
                    reply.body = await self.reader.readexactly(int(fields["content-length"]))
                else:
                    reply.body = await self.reader.read()
            except asyncio.IncompleteReadError as error:
                reply.body, reply.whole = error.partial, False
            except ConnectionError:
                reply.whole = False
            return reply

    async def _chunks(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            try:
                size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
                data = await self.reader.readexactly(size + 2)
            except asyncio.IncompleteReadError as error:
                raise asyncio.IncompleteReadError(b"".join(pieces) + error.partial, None) from None
            assert data[-2:] == b"\r\n"
            if not size:
                return b"".join(pieces)
            pieces.append(data[:-2])

    async def closed(self) -> bytes:
        """Wait for the end; what came until then."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def leave(self) -> None:
        self.writer.transport.abort()


async def chat(port: int, body: bytes = CHAT, path: str = "/api/chat", more: str = "") -> Reply:
    """One request on a connection of its own."""
    client = await Client.connect(port)
    client.ask(body, path, more)
    try:
        return await client.reply()
    finally:
        client.leave()


async def get(port: int, path: str, method: str = "GET") -> Reply:
    client = await Client.connect(port)
    client.send(f"{method} {path} HTTP/1.1\r\nHost: fleet\r\n\r\n".encode())
    try:
        return await client.reply(has_body=method != "HEAD")
    finally:
        client.leave()
