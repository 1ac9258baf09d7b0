"""Work that goes on however busy the reconcile loop is, on an event loop of its own."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Thread
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]


async def beside(name: str, work: Work) -> None:
    """Run `work` there until it ends; raises what it raises. Cancelled, it cancels the work and
    waits for its end. Nothing made on another event loop may be used in it but to be read."""
    own = asyncio.get_running_loop()
    loop = asyncio.new_event_loop()
    ended: asyncio.Future[None] = own.create_future()
    stop = asyncio.Event()

    def settle(error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    def run() -> None:
        failed: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(_until(stop, work))
        except Exception as error:
            failed = error
        with suppress(RuntimeError):  # nobody waits any more
            own.call_soon_threadsafe(settle, failed)

    Thread(target=run, name=name, daemon=True).start()
    try:
        await asyncio.shield(ended)
    finally:
        with suppress(RuntimeError):  # its loop is closed: it has ended by itself
            loop.call_soon_threadsafe(stop.set)
        await asyncio.wait({ended})


async def _until(stop: asyncio.Event, work: Work) -> None:
    working = asyncio.create_task(work())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait({working})
    if not working.cancelled():
        working.result()
