"""Streamed chats through a router, one after another on each of a few connections."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from tests.cluster.waiting import eventually

STREAMS = 6
MOST = 20_000
_PAUSE = 0.2
"""Seconds that a client takes breath after a refusal."""


@dataclass
class Traffic:
    """What became of the chats; `key` and `trust` are what clients come with, and may change."""

    url: str
    model: str
    key: str = ""
    trust: ssl.SSLContext | bool = True
    asked: int = 0
    whole: int = 0
    cut: int = 0
    lost: int = 0
    reasons: list[str] = field(default_factory=list)

    def goes_on(self, count: int = 2 * STREAMS, within: float = 90.0) -> None:
        """Wait until so many more have been answered."""
        enough = self.whole + count
        eventually("chats are answered", lambda: self.whole >= enough, within=within)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Chats until the block ends; those under way then are finished."""
        stop = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._all(stop)), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(90)

    async def _all(self, stop: threading.Event) -> None:
        await asyncio.gather(*(self._one_by_one(stop) for _ in range(STREAMS)))

    async def _one_by_one(self, stop: threading.Event) -> None:
        while not stop.is_set() and self.asked < MOST:
            # a connection lasts for a few chats, as those of people do
            async with httpx2.AsyncClient(
                base_url=self.url, verify=self.trust, timeout=60, trust_env=False
            ) as client:
                for _ in range(5):
                    if stop.is_set():
                        return
                    if not await self._chat(client):
                        await asyncio.sleep(_PAUSE)
                        break

    async def _chat(self, client: httpx2.AsyncClient) -> bool:
        self.asked += 1
        body = {"model": self.model, "messages": [{"role": "user", "content": "Why?"}]}
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        begun = done = False
        why = "ended without its last line"
        try:
            async with client.stream("POST", "/api/chat", json=body, headers=headers) as answer:
                if answer.status_code != 200:
                    why = f"{answer.status_code} {(await answer.aread()).decode()[:200].strip()}"
                else:
                    async for line in answer.aiter_lines():
                        told = json.loads(line)
                        begun, done = True, bool(told.get("done"))
                        why = told.get("error", why)
        except (httpx2.HTTPError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
        if done:
            self.whole += 1
            return True
        self.reasons.append(f"{'cut' if begun else 'lost'}: {why}")
        if begun:
            self.cut += 1
        else:
            self.lost += 1
        return False
