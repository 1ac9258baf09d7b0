"""A network between a client and the API server that fails when told to."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self


class Proxy:
    """Forwards TCP connections; `cut`, `freeze` and `resume` are the faults and their end."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.cut()

    async def cut(self) -> None:
        """Refuse connections and drop those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop()

    async def freeze(self) -> None:
        """Let the present connections stand, but carry nothing: half-open."""
        self._open.clear()

    async def resume(self) -> None:
        """Work again. What was frozen stays so: only new connections carry bytes."""
        self._open = asyncio.Event()
        self._open.set()
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._start(self._connect(reader, writer, self._open))

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event
    ) -> None:
        there, back = await asyncio.open_connection(*self._to)
        self._writers.add(back)
        self._start(self._pipe(reader, back, is_open))
        self._start(self._pipe(there, writer, is_open))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pipe(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_open: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await is_open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()

    async def _drop(self) -> None:
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        writers = list(self._writers)
        self._writers.clear()
        for writer in writers:
            writer.transport.abort()
        for writer in writers:
            with suppress(OSError):
                await writer.wait_closed()
