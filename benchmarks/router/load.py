"""Load on a proxy: chats by wrk, streams by many raw connections."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import uvloop

from benchmarks.router.answering import MARK

PATH = "/v1/chat/completions"
_OPENING_AT_ONCE = 200
_BEGIN_SECONDS = 20
_T = TypeVar("_T")

# No two requests are alike: each has a trace and a question of its own.
_SCRIPT = """
local trace = 0
local before, after = {before}, {after}
local headers = {{
  ['Content-Type'] = 'application/json', ['Accept'] = 'application/json',
  ['Accept-Encoding'] = 'gzip, deflate', ['User-Agent'] = 'OpenAI/Python 1.99.0',
}}
init = function() math.randomseed(os.time()) trace = math.random(0, 1000000000) end
request = function()
  trace = trace + 1
  headers['traceparent'] = string.format('00-%032x-%016x-01', trace, trace)
  return wrk.format('POST', nil, headers, before .. string.format('%012d', trace) .. after)
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT %d %d %d %d %d\\n', summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Chats:
    """What wrk counted; times in microseconds."""

    requests: int
    microseconds: int
    errors: int
    p50: int
    p99: int

    @property
    def per_second(self) -> float:
        return self.requests / self.microseconds * 1e6


def body(content: int, **more: object) -> str:
    """A chat with so many bytes of content, `????` where something of its own may stand."""
    message = {"role": "user", "content": "????" + "x" * content}
    return json.dumps({"model": "m", **more, "messages": [message]}, separators=(",", ":"))


def chats(
    directory: Path, port: int, content: int, stream: bool, connections: int, seconds: int
) -> Chats:
    """Chats one after the other on each of the connections."""
    before, after = body(content, stream=stream).split("????")
    script = directory / "chats.lua"
    script.write_text(_SCRIPT.format(before=f"[==[{before}]==]", after=f"[==[{after}]==]"))
    done = subprocess.run(
        [
            "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
            f"http://127.0.0.1:{port}{PATH}",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    return Chats(*(int(number) for number in told.split()[1:]))


class Stream(asyncio.Protocol):
    """One streamed chat; counts its chunks as they come."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.chunks = 0
        self.begun: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.chunks += data.count(MARK)
        if self.chunks and not self.begun.done():
            self.begun.set_result(True)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_result(False)


def with_streams(
    port: int, count: int, kind: str, then: Callable[[list[Stream]], Awaitable[_T]]
) -> _T:
    """Open streams (`kind` is `hold` or `pace`), do something, and close them."""
    done: _T = uvloop.run(_with_streams(port, count, kind, then))
    return done


async def _with_streams(
    port: int, count: int, kind: str, then: Callable[[list[Stream]], Awaitable[_T]]
) -> _T:
    loop = asyncio.get_running_loop()
    content = body(300, stream=True, **{kind: True}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"User-Agent: OpenAI/Python 1.99.0\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    opening = asyncio.Semaphore(_OPENING_AT_ONCE)
    transports: list[asyncio.BaseTransport] = []

    async def opened() -> Stream | None:
        async with opening:
            try:
                transport, stream = await loop.create_connection(
                    lambda: Stream(head.encode() + content), "127.0.0.1", port
                )
            except OSError:
                return None
            transports.append(transport)
            begun, _ = await asyncio.wait((stream.begun,), timeout=_BEGIN_SECONDS)
            return stream if begun and stream.begun.result() else None

    try:
        streams = await asyncio.gather(*(opened() for _ in range(count)))
        return await then([stream for stream in streams if stream is not None])
    finally:
        for transport in transports:
            transport.close()
