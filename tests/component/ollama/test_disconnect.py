"""A client that leaves ends its generation, streamed or not.

The proof is that the model can then be unloaded, which waits for running requests. That the slot
is free again cannot be asked of the real Ollama: leaving early wedges it now and then.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from dev.ollama.library import ENDLESS
from ollama_fleet.ollama.client import OllamaClient
from tests.component.ollama.waiting import until

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def idle(client: OllamaClient) -> AsyncIterator[None]:
    """The endless model is not in memory when a test begins, nor after it."""
    await unloaded(client)
    yield
    await unloaded(client)


async def is_resident(client: OllamaClient) -> bool:
    return ENDLESS in {model.name for model in await client.ps()}


async def unloaded(client: OllamaClient) -> None:
    await client.unload(ENDLESS)

    async def gone() -> bool:
        return not await is_resident(client)

    await until(gone, "the model is unloaded", 3)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": HELLO}),
        ("/api/generate", {"prompt": "hello"}),
        ("/v1/chat/completions", {"messages": HELLO, "stream": True}),
        ("/v1/completions", {"prompt": "hello", "stream": True}),
        ("/v1/messages", {"messages": HELLO, "stream": True, "max_tokens": 10**6}),
    ],
)
@pytest.mark.usefixtures("idle")
async def test_leaving_a_stream_ends_it(
    http: httpx2.AsyncClient, client: OllamaClient, path: str, body: dict[str, Any]
) -> None:
    async with http.stream("POST", path, json={"model": ENDLESS, **body}) as response:
        lines = response.aiter_lines()
        for _ in range(20):
            await anext(lines)
        assert await is_resident(client)
    await unloaded(client)


@pytest.mark.usefixtures("idle")
async def test_leaving_before_an_unstreamed_answer_ends_it(
    http: httpx2.AsyncClient, client: OllamaClient
) -> None:
    body = {"model": ENDLESS, "messages": HELLO, "stream": False}
    with pytest.raises(httpx2.ReadTimeout):
        await http.post("/api/chat", json=body, timeout=httpx2.Timeout(5, read=0.4))
    await unloaded(client)


@pytest.mark.usefixtures("idle")
async def test_a_model_in_use_stays_and_its_slot_is_taken(
    http: httpx2.AsyncClient, client: OllamaClient
) -> None:
    body = {"model": ENDLESS, "prompt": "hello"}
    async with http.stream("POST", "/api/generate", json=body) as response:
        lines = response.aiter_lines()
        assert json.loads(await anext(lines))["done"] is False
        one = {**body, "options": {"num_predict": 1}, "stream": False}
        with pytest.raises(httpx2.ReadTimeout):
            await http.post("/api/generate", json=one, timeout=httpx2.Timeout(5, read=0.3))
        await client.unload(ENDLESS)
        assert await is_resident(client)
        assert json.loads(await anext(lines))["done"] is False
    await unloaded(client)
