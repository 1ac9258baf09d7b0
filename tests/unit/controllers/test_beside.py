"""Work beside the reconcile loop."""

import asyncio
import threading

import pytest

from ollama_fleet.controllers.beside import beside


async def test_it_goes_on_while_the_event_loop_is_busy() -> None:
    begun, seen, go_on = threading.Event(), threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        await asyncio.to_thread(go_on.wait, 60)
        seen.set()

    running = asyncio.create_task(beside("test", work))
    await asyncio.to_thread(begun.wait, 60)
    go_on.set()
    # this blocks the event loop itself, as a long reconcile does
    assert seen.wait(60)
    await running


async def test_what_it_raises_arrives() -> None:
    async def work() -> None:
        raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        await beside("test", work)


async def test_it_has_ended_once_it_is_cancelled() -> None:
    begun, left = threading.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            left.append(threading.current_thread().name)

    running = asyncio.create_task(beside("test", work))
    await asyncio.to_thread(begun.wait, 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert left == ["test"]
