"""One blob on its way from a registry, and whoever follows it."""

import asyncio
import hashlib
import heapq
import logging
import os
from collections.abc import Callable
from io import FileIO
from itertools import count

from ollama_fleet.api.names import ModelName
from ollama_fleet.mirror.errors import (
    BadAnswerError,
    BeyondEndError,
    MirrorError,
    TooLargeError,
    UnavailableError,
    WrongBytesError,
)
from ollama_fleet.mirror.store import Partial, Store
from ollama_fleet.mirror.upstream import CHUNK, Upstream, repository

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Failures in a row without one byte in between, after which a download is given up."""
IDLE_SECONDS = 60.0
"""How long a download goes on that nobody follows. Ollama asks for a blob, leaves, and comes back
for its parts."""
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
_PATIENCE = 15.0
"""Seconds that clients are left without an answer; they are better told to come back."""


class Download:
    """A blob that is fetched once from its beginning to its end, whoever wants which part.

    Its last byte is shown to nobody before the digest of the whole is verified: so no answer that
    holds the end of a blob is complete unless the blob is right, and one that turns out wrong ends
    every answer that is still under way. `expected` is its size where a manifest has told it.
    """

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        name: ModelName,
        digest: str,
        expected: int | None,
        received: Callable[[int], None],
    ) -> None:
        self._store, self._upstream = store, upstream
        self._name, self._digest = name, digest
        self._expected = expected
        self._received = received
        self._hash = hashlib.sha256()
        self._position = 0
        self._verified = False
        self._error: MirrorError | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()
        self._followers = 0
        self._idle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.total: int | None = None
        """Bytes in all; None until the registry has said."""

    async def run(self, places: asyncio.Semaphore) -> None:
        """Fetch the blob, keep it, and tell those who wait; never raises but CancelledError."""
        self._task = asyncio.current_task()
        error: MirrorError = UnavailableError("the download was stopped, as nobody followed it")
        try:
            with self._store.writing(self._digest) as partial:
                await self._take_up(partial)
                if places.locked():
                    # clients give up sooner on an answer than on the bytes of one
                    self.total = self._expected
                    self._tell()
                try:
                    async with places:
                        await self._fetch(partial)
                    await self._verify(partial)
                except (BeyondEndError, WrongBytesError):
                    partial.drop()
                    raise
        except MirrorError as failure:
            error = failure
        except OSError as failure:
            error = TooLargeError(f"the mirror's disk: {failure.strerror}")
        finally:
            if not self._verified:
                self._error = error
                log.warning("%s of %s: %s", self._digest[:19], repository(self._name), error)
            self._tell()

    def follow(self) -> None:
        """Somebody wants it. Each call wants one of `leave`."""
        self._followers += 1
        if self._idle:
            self._idle.cancel()
            self._idle = None

    def leave(self) -> None:
        """Somebody has gone."""
        self._followers -= 1
        if not self._followers:
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.stop)

    def stop(self) -> None:
        """Stop it; what is there stays for the next time."""
        if self._task:
            self._task.cancel()

    async def begun(self) -> int:
        """Wait until it is known how large the blob is; raises MirrorError."""
        while self.total is None:
            await self._change(-1)
        return self.total

    async def beyond(self, offset: int) -> int:
        """Wait until there are bytes from `offset` on; where they end. Raises MirrorError."""
        while self._error or self._shown <= offset:
            await self._change(offset)
        return self._shown

    @property
    def _shown(self) -> int:
        """Where the bytes end that may be served."""
        if self._verified or self.total is None:
            return self._position
        return min(self._position, self.total - 1)

    async def _change(self, offset: int) -> None:
        if self._error:
            raise self._error
        told = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (offset, next(self._order), told))
        await told

    def _tell(self) -> None:
        """Wake those who wait for what is there now; all of them at the end."""
        over = self._verified or self._error
        while self._waiting and (over or self._waiting[0][0] < self._shown):
            told = heapq.heappop(self._waiting)[2]
            if not told.done():
                told.set_result(None)

    async def _fetch(self, partial: Partial) -> None:
        failures = 0
        while not self._is_whole():
            before = self._position
            try:
                await self._receive(partial)
            except MirrorError as error:
                failures = 1 if self._position > before else failures + 1
                if not error.passing or failures >= ATTEMPTS:
                    raise
                wait = error.retry_after or min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (failures - 1))
                if self.total is None and wait > _PATIENCE:
                    raise
                log.info("%s: %s; again in %.0f s", self._digest[:19], error, wait)
                await asyncio.sleep(wait)

    def _is_whole(self) -> bool:
        return self._position == self.total or (
            self.total is None and self._position > 0 and self._is_right()
        )

    def _is_right(self) -> bool:
        return f"sha256:{self._hash.hexdigest()}" == self._digest

    async def _take_up(self, partial: Partial) -> None:
        """Go on where an earlier download ended."""
        while chunk := await asyncio.to_thread(partial.file.read, 8 * CHUNK):
            await asyncio.to_thread(self._hash.update, chunk)
            self._position += len(chunk)

    async def _receive(self, partial: Partial) -> None:
        async with self._upstream.blob(self._name, self._digest, self._position) as body:
            if body.offset != self._position:
                self._hash = hashlib.sha256()
                self._position = body.offset
            partial.expect(body.total)
            self.total = body.total
            self._tell()
            async for chunk in body.chunks:
                if self._position + len(chunk) > body.total:
                    raise BadAnswerError(f"{self._name.host} sent more than it said")
                await self._write(partial.file, chunk)
                self._received(len(chunk))
                self._position += len(chunk)
                self._tell()
        if self._position < body.total:
            raise UnavailableError(f"{self._name.host} ended too early")

    async def _write(self, file: FileIO, chunk: bytes) -> None:
        def write() -> None:
            os.pwrite(file.fileno(), chunk, self._position)
            self._hash.update(chunk)

        writing = asyncio.ensure_future(asyncio.to_thread(write))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing  # the file must not be closed under it
            raise

    async def _verify(self, partial: Partial) -> None:
        if not self._is_right():
            raise WrongBytesError(
                f"{self._name.host} sent other bytes than {self._digest}; they were thrown away"
            )
        await asyncio.to_thread(partial.sync)
        partial.keep()
        self.total = self._position
        self._verified = True
        log.info("%s of %s is here", self._digest[:19], repository(self._name))
