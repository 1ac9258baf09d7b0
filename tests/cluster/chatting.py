"""Clients that chat through a router while something else happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dev.demo.chats import Load, load

_MOST = 5000


@contextmanager
def chatting(url: str, model: str, streams: int) -> Iterator[Load]:
    """That many streamed chats at once, one after another, until the block ends.

    The Load is filled when it has ended, after the last answers.
    """
    result = Load()
    begun, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def work() -> None:
        loop.call_later(0.5, begun.set)
        found = await load(url, model, streams, stop, _MOST)
        result.__dict__.update(found.__dict__)

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()), daemon=True)
    thread.start()
    begun.wait(30)
    try:
        yield result
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()
