"""A server that answers every chat at once with the same bytes, so that only the proxy is timed.

`python -m benchmarks.router.answering PORT [PORT …]`; answers probes as an Ollama with model m.
"""

import asyncio
import sys

import uvloop

CHUNKS = 50
_TOKEN = (
    b'{"model":"m","created_at":"2026-03-01T12:00:00.000000000Z",'
    b'"message":{"role":"assistant","content":" token"},"done":false}      \n'
)
_BODY = b'{"model":"m","message":{"role":"assistant","content":"' + b"x" * 300 + b'"},"done":true}'


def _whole(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
        b"Date: Sun, 01 Mar 2026 12:00:00 GMT\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body


_CHUNK = b"%x\r\n%s\r\n" % (len(_TOKEN), _TOKEN)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_PROBES = {
    b"/api/version": _whole(b'{"version":"0.35.1"}'),
    b"/api/tags": _whole(b'{"models":[{"name":"m:latest","digest":"d"}]}'),
    b"/api/ps": _whole(b'{"models":[{"name":"m:latest"}]}'),
}


class Answering(asyncio.Protocol):
    """One connection; requests are answered as soon as their body is there."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, rest = self.buffer[:end].lower(), self.buffer[end + 4 :]
            _, found, length = head.partition(b"content-length: ")
            size = int(length.split(b"\r\n")[0]) if found else 0
            if len(rest) < size:
                return
            self.buffer = rest[size:]
            self.answer(head.split(b" ")[1], rest[:size])

    def answer(self, path: bytes, body: bytes) -> None:
        if path in _PROBES:
            self.transport.write(_PROBES[path])
        elif b'"stream":true' in body:
            self.transport.write(_STREAM_HEAD)
            self.token(CHUNKS)
        else:
            self.transport.write(_whole(_BODY))

    def token(self, left: int) -> None:
        if not left:
            self.transport.write(b"0\r\n\r\n")
            return
        self.transport.write(_CHUNK)
        asyncio.get_running_loop().call_soon(self.token, left - 1)


async def main(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(Answering, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main([int(port) for port in sys.argv[1:]]))
