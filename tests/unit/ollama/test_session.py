"""What is said of a server that cannot be reached."""

from __future__ import annotations

import asyncio

import pytest

from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import Unreachable


class Says(asyncio.Protocol):
    """Whoever connects is told this, and nothing more."""

    def __init__(self, told: bytes) -> None:
        self._told = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._told)
        transport.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1", "Connection refused"),
        ("http://nobody.invalid:11434", "Name or service not known|Temporary failure"),
        ("http://[::1", "that is no URL"),
        ("http://127.0.0.1:99999", "that is no URL"),
    ],
)
async def test_nobody_is_there(url: str, reason: str) -> None:
    async with OllamaClient(url, timeout=5) as client:
        with pytest.raises(Unreachable, match=f"cannot be reached: ({reason})$"):
            await client.version()


@pytest.mark.parametrize(
    ("scheme", "told", "reason"),
    [
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "(?i)wrong.version.number"),
        ("http", b"", "Server disconnected"),
        ("http", b"\x15\x03\x01\x00\x02\x02\x16", "Bad status line|Invalid"),
    ],
    ids=["no TLS", "silence", "no HTTP"],
)
async def test_somebody_else_is_there(scheme: str, told: bytes, reason: str) -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Says(told), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with OllamaClient(f"{scheme}://127.0.0.1:{port}", timeout=5) as client:
            with pytest.raises(Unreachable, match=reason):
                await client.version()
