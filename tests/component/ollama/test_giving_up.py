"""Calls that are given up: at whatever moment that is, those after them find a connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

import pytest

from ollama_fleet.api.names import ModelName
from ollama_fleet.mirror.credentials import Credentials
from ollama_fleet.mirror.upstream import Upstream
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.registry import RegistryClient
from ollama_fleet.router.caller import answer_of, session_of
from ollama_fleet.router.snapshot import Endpoint

MOMENTS = 30
"""Turns of the event loop, which a call takes about half of."""
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {"digest": f"sha256:{'0' * 64}", "size": 2, "mediaType": "config"},
        "layers": [{"digest": f"sha256:{'1' * 64}", "size": 3, "mediaType": "model"}],
    }
).encode()

Ask = Callable[[], Awaitable[object]]


class Answering(asyncio.Protocol):
    """Two answers to a connection: the third call of it finds it closed."""

    def __init__(self) -> None:
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        body = MANIFEST if b"/manifests/" in data else b'{"version": "0.17.4"}'
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.answers += 1
        if self.answers == 2:
            self.transport.close()


@asynccontextmanager
async def probing(url: str) -> AsyncIterator[Ask]:
    host, _, port = url.removeprefix("http://").partition(":")
    endpoint = Endpoint("a", host, int(port))
    async with session_of(endpoint) as http:
        yield lambda: answer_of(http, endpoint, "/api/version", 5.0)


@asynccontextmanager
async def managing(url: str) -> AsyncIterator[Ask]:
    async with OllamaClient(url) as client:
        yield client.version


@asynccontextmanager
async def sizing(url: str) -> AsyncIterator[Ask]:
    async with RegistryClient(url) as client:
        yield lambda: client.manifest("llama3.2:1b")


@asynccontextmanager
async def mirroring(url: str) -> AsyncIterator[Ask]:
    name = ModelName.parse("llama3.2:1b")
    async with Upstream({name.host: url}, Credentials(None)) as upstream:
        yield lambda: upstream.manifest(name)


@pytest.mark.parametrize(
    ("client", "connections"),
    [(probing, 1), (managing, 100), (sizing, 100), (mirroring, 64)],
    ids=["a router's probes", "the operator's calls", "the registry's", "the mirror's"],
)
async def test_a_call_given_up_takes_no_connection_with_it(
    client: Callable[[str], AbstractAsyncContextManager[Ask]], connections: int
) -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Answering, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with client(f"http://127.0.0.1:{port}") as ask:
            for moment in range(MOMENTS):
                for _ in range(connections):
                    call = asyncio.ensure_future(ask())
                    for _ in range(moment):
                        await asyncio.sleep(0)
                    call.cancel()
                    await asyncio.gather(call, return_exceptions=True)
            assert await ask()
