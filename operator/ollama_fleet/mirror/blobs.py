"""Blobs: from the store, or from the one download that everybody follows."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ollama_fleet.api.names import ModelName
from ollama_fleet.mirror.download import Download
from ollama_fleet.mirror.errors import BadAnswerError, UnavailableError
from ollama_fleet.mirror.metrics import Metrics
from ollama_fleet.mirror.store import Store
from ollama_fleet.mirror.upstream import Upstream

CHUNK = 128 * 1024
"""Bytes read for a client at once: what each one holds in memory, twice at most."""


GLANCE = 8 * 2**20
"""Bytes of a range, at most, that do not make the mirror fetch a whole blob."""

Received = Callable[[int], None]


class Reader:
    """A blob being read; what is not here yet is waited for."""

    def __init__(self, file: int, size: int, download: Download | None) -> None:
        self._file = file
        self._download = download
        self.size = size

    async def read(self, offset: int, end: int) -> bytes:
        """Some bytes from `offset` on, not beyond `end`; raises MirrorError where they cannot be
        had."""
        if self._download:
            end = min(end, await self._download.beyond(offset))
        chunk = await asyncio.to_thread(os.pread, self._file, min(CHUNK, end - offset), offset)
        if not chunk:
            raise UnavailableError("a file of the mirror is shorter than it was")
        return chunk


class Glance:
    """A few bytes of a blob, straight from the registry, to be read in order."""

    def __init__(self, chunks: AsyncIterator[bytes], size: int, received: Received) -> None:
        self._chunks = chunks
        self._received = received
        self.size = size

    async def read(self, offset: int, end: int) -> bytes:
        """The next bytes; raises MirrorError."""
        chunk = await anext(self._chunks, b"")
        if not chunk:
            raise UnavailableError("the registry ended too early")
        self._received(len(chunk))
        return chunk[: end - offset]


class Blobs:
    """What the mirror has and gets of blobs; `at_once` downloads run, others wait. `size_of` tells
    a digest's bytes where a manifest has."""

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        metrics: Metrics,
        at_once: int,
        size_of: Callable[[str], int | None],
    ) -> None:
        self._store = store
        self._size_of = size_of
        self._upstream = upstream
        self._metrics = metrics
        self._places = asyncio.Semaphore(at_once)
        self._downloads: dict[str, Download] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.downloads.set_function(lambda: len(self._downloads))

    async def size(self, name: ModelName, digest: str) -> int:
        """A blob's bytes; raises MirrorError."""
        for size in (self._store.size(digest), self._size_of(digest)):
            if size is not None:
                return size
        return await self._upstream.size(name, digest)

    @asynccontextmanager
    async def open(self, name: ModelName, digest: str) -> AsyncIterator[Reader]:
        """Read a blob, fetching it if need be; raises MirrorError before anything can be read."""
        size = self._store.size(digest)
        if size is not None:
            self._metrics.blobs.labels("hit").inc()
            with self._store.reading(digest) as file:
                yield Reader(file.fileno(), size, None)
            return
        self._metrics.blobs.labels("shared" if digest in self._downloads else "miss").inc()
        download = self._downloads.get(digest) or self._start(name, digest)
        download.follow()
        try:
            size = await download.begun()
            with self._store.reading(digest) as file:
                yield Reader(file.fileno(), size, download)
        finally:
            download.leave()

    def may_glance(self, digest: str, begin: int, end: int, size: int) -> bool:
        """Whether a range is so little of a blob that is not here, in its first half, that all of
        it need not come: whoever looks at the head of a model's file may never want the rest."""
        here = self._store.size(digest) is not None or digest in self._downloads
        return not here and end - begin <= GLANCE and end <= size // 2

    @asynccontextmanager
    async def glance(
        self, name: ModelName, digest: str, begin: int, end: int
    ) -> AsyncIterator[Glance]:
        """Read a range without keeping it; raises MirrorError."""
        self._metrics.blobs.labels("glance").inc()
        async with self._upstream.blob(name, digest, begin, end) as body:
            if body.offset != begin:
                raise BadAnswerError(f"{name.host} knows no ranges")
            yield Glance(body.chunks, body.total, self._received(name))

    async def stop(self) -> None:
        """End the downloads; what they have is kept."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _received(self, name: ModelName) -> Received:
        return self._metrics.upstream_bytes.labels(name.host.lower()).inc

    def _start(self, name: ModelName, digest: str) -> Download:
        download = Download(
            self._store,
            self._upstream,
            name,
            digest,
            self._size_of(digest),
            self._received(name),
        )
        self._downloads[digest] = download
        task = asyncio.create_task(download.run(self._places), name=f"download {digest}")
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            del self._downloads[digest]

        task.add_done_callback(ended)
        return download
