"""What a server is reached by is told to nobody, should the server repeat it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from ollama_fleet.api.access import Access
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import OllamaError

KEY = "Bearer of-the-box-alone"


async def echo(status: int, body: str) -> AsyncIterator[OllamaClient]:
    """A client of a server that gives one answer, in which KEY is what it was sent."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        sent = next(line for line in head.splitlines() if line.lower().startswith("authorization:"))
        content = body.replace("KEY", sent.partition(": ")[2]).encode()
        length = f"Content-Length: {len(content)}"
        writer.write(f"HTTP/1.1 {status} \r\n{length}\r\n\r\n".encode() + content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        access = Access((("Authorization", KEY),))
        async with OllamaClient(f"http://127.0.0.1:{port}", access, timeout=5) as client:
            yield client


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, json.dumps({"error": "not known: KEY"})),
        (404, json.dumps({"error": "model 'KEY' not found"})),
        (500, "no JSON, but KEY"),
        (500, 190 * "." + "KEY"),  # cut off in its middle
        (503, json.dumps({"error": "busy with KEY"})),
        (200, json.dumps({"error": "KEY"})),
        (200, json.dumps({"status": "KEY"})),
        (200, json.dumps({"status": {"KEY": 1}})),
    ],
)
async def test_no_error_repeats_what_was_sent(status: int, body: str) -> None:
    async for client in echo(status, body):
        with pytest.raises(OllamaError) as raised:
            async for _ in client.pull("m"):
                pass
        told = f"{raised.value} {vars(raised.value)}"
        assert "of-the-box" not in told
        assert "Bearer" not in told or "[hidden]" in told
