"""Chats through the router: one that is shown, and many at once while a server dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson


class ChatFailed(Exception):  # noqa: N818
    """A chat that did not end as it should; what the client saw."""


@dataclass
class Answer:
    """One streamed answer. Times in seconds."""

    server: str = ""
    first: float = 0.0
    total: float = 0.0
    tokens: int = 0
    text: list[str] = field(default_factory=list)


async def chat(
    client: httpx2.AsyncClient, model: str, question: str, answer: Answer
) -> AsyncIterator[str]:
    """Ask, and give the pieces of the answer as they come; raises ChatFailed."""
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    began = time.monotonic()
    done: dict[str, Any] = {}
    try:
        async with client.stream(
            "POST", "/api/chat", json=body, headers={"X-Ollama-Fleet-Decision": "1"}
        ) as response:
            if response.status_code != httpx2.codes.OK:
                text = (await response.aread()).decode(errors="replace")
                raise ChatFailed(f"{response.status_code}: {text.strip()[:200]}")
            answer.server = response.headers.get("X-Ollama-Fleet-Server", "")
            async for line in response.aiter_lines():
                if not line:
                    continue
                piece = orjson.loads(line)
                if "error" in piece:
                    raise ChatFailed(str(piece["error"]))
                if not answer.first:
                    answer.first = time.monotonic() - began
                if piece.get("done"):
                    done = piece
                text = piece.get("message", {}).get("content", "")
                answer.text.append(text)
                yield text
    except (httpx2.HTTPError, orjson.JSONDecodeError) as error:
        raise ChatFailed(f"{type(error).__name__}: {error}") from error
    if not done:
        raise ChatFailed("the stream ended without its last line")
    answer.total = time.monotonic() - began
    answer.tokens = int(done.get("eval_count", 0))


@dataclass
class Load:
    """How many chats were asked, and how they ended; ``retried`` is the router's own count."""

    asked: int = 0
    whole: int = 0
    retried: int = 0
    begun_and_cut: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Chats whose client did not get a whole answer."""
        return self.begun_and_cut + self.failed


async def load(url: str, model: str, streams: int, stop: asyncio.Event, limit: int) -> Load:
    """Keep that many chats going at once until ``stop``, at most ``limit`` in all."""
    result = Load()
    limits = httpx2.Limits(max_connections=streams, max_keepalive_connections=streams)
    timeout = httpx2.Timeout(60.0)
    async with httpx2.AsyncClient(
        base_url=url, limits=limits, timeout=timeout, trust_env=False
    ) as client:

        async def one_after_another() -> None:
            while not stop.is_set() and result.asked < limit:
                result.asked += 1
                answer = Answer()
                try:
                    async for _ in chat(client, model, "Why is the sky blue?", answer):
                        pass
                except ChatFailed as error:
                    if answer.text:
                        result.begun_and_cut += 1
                    else:
                        result.failed += 1
                    result.reasons.append(str(error))
                else:
                    result.whole += 1

        await asyncio.gather(*(one_after_another() for _ in range(streams)))
    return result
