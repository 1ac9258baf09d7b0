"""A server that answers every chat at once, so that only the proxy in front of it is timed.

`python -m benchmarks.router.answering PORT [PORT …]`; answers probes as an Ollama with model m, and
chats as OpenAI's API does. A chat whose body holds `"pace":true` streams a chunk every 20 ms until
the client leaves, one with `"hold":true` one chunk and then nothing, any other stream all its
chunks at once.
"""

import asyncio
import sys

import uvloop

CHUNKS = 50
PACE = 0.02
"""Seconds between two chunks of a paced stream."""
MARK = b'" token"'
"""Stands once in every chunk."""

_TOKEN = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1772366400,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":' + MARK + b'},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1772366400,"model":"m",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":75,"completion_tokens":50,"total_tokens":125}}\n\ndata: [DONE]\n\n'
)
_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1772366400,"model":"m",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"' + b"x" * 300 + b'"},'
    b'"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":75,"completion_tokens":50,"total_tokens":125}}'
)


def _whole(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
        b"Date: Sun, 01 Mar 2026 12:00:00 GMT\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_PROBES = {
    b"/api/version": _whole(b'{"version":"0.35.1"}'),
    b"/api/tags": _whole(b'{"models":[{"name":"m:latest","digest":"d"}]}'),
    b"/api/ps": _whole(b'{"models":[{"name":"m:latest"}]}'),
    b"/v1/models": _whole(b'{"object":"list","data":[{"id":"m","object":"model"}]}'),
    b"/health": _whole(b"{}"),
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
        elif b'"stream":true' not in body and b'"stream": true' not in body:
            self.transport.write(_whole(_BODY))
        else:
            self.transport.write(_STREAM_HEAD)
            if b'"hold":true' in body:
                self.transport.write(_chunk(_TOKEN))
            elif b'"pace":true' in body:
                self.pace()
            else:
                self.token(CHUNKS)

    def token(self, left: int) -> None:
        if not left:
            self.transport.write(_chunk(_LAST) + b"0\r\n\r\n")
            return
        self.transport.write(_chunk(_TOKEN))
        asyncio.get_running_loop().call_soon(self.token, left - 1)

    def pace(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_chunk(_TOKEN))
            asyncio.get_running_loop().call_later(PACE, self.pace)


async def main(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(Answering, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main([int(port) for port in sys.argv[1:]]))
