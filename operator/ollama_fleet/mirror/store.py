"""Blobs on disk, within a bound: what was longest unused goes first."""

import logging
import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from ollama_fleet.api.quantity import gib
from ollama_fleet.mirror.errors import NoRoomError, TooLargeError, UnavailableError

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BUSY_SECONDS = 30.0


@dataclass
class _Held:
    """A file of the store: its bytes, those it may grow to included, and how many use it."""

    size: int
    users: int = 0


def is_digest(text: str) -> bool:
    """Whether this is `sha256:<64 hex>`."""
    return _DIGEST.fullmatch(text) is not None


class Store:
    """Verified blobs under `blobs/`, downloads not finished under `partial/`, in `directory`.

    Holds at most `limit` bytes, or what its disk can hold if that is less. Files in use are never
    removed. What is in it outlives the process, with the order in which it was used.
    """

    def __init__(
        self, directory: Path, limit: int, evicted: Callable[[], None] = lambda: None
    ) -> None:
        self._evicted = evicted
        self._blobs, self._partials = directory / "blobs", directory / "partial"
        self._held: OrderedDict[Path, _Held] = OrderedDict()
        for folder in (self._blobs, self._partials):
            folder.mkdir(parents=True, exist_ok=True)
        found = [(path, path.stat()) for path in self._files()]
        for path, stat in sorted(found, key=lambda each: each[1].st_mtime_ns):
            self._held[path] = _Held(stat.st_size)
        self.used = sum(held.size for held in self._held.values())
        room = self.used + shutil.disk_usage(directory).free
        if room < limit:
            log.warning("%s can hold %s, not %s", directory, gib(room), gib(limit))
        self.limit = min(limit, room)
        self._make_room(0)

    def size(self, digest: str) -> int | None:
        """The bytes of a verified blob; None if it is not here."""
        held = self._held.get(self._blob(digest))
        return None if held is None else held.size

    @contextmanager
    def reading(self, digest: str) -> Iterator[BinaryIO]:
        """A blob's file, also while it is being written; it stays as long as it is read.
        Raises UnavailableError."""
        path = self._blob(digest)
        if path not in self._held:
            path = self._partial(digest)
        if path not in self._held:
            raise UnavailableError(f"{digest} is not here any more")
        with self._using(path), path.open("rb") as file:
            os.utime(path)
            yield file

    @contextmanager
    def writing(self, digest: str) -> Iterator["Partial"]:
        """A blob's unfinished file, made if there is none; it stays until it is kept or dropped,
        or its room is needed."""
        path = self._partial(digest)
        path.touch()
        self._held.setdefault(path, _Held(0))
        with self._using(path), path.open("r+b", buffering=0) as file:
            try:
                yield Partial(self, digest, path, file)
            finally:
                if path in self._held:
                    self._resize(path, path.stat().st_size)

    def is_writable(self) -> bool:
        """Whether files can be made in it."""
        return os.access(self._partials, os.W_OK)

    def grow(self, path: Path, total: int) -> None:
        """Make room for an unfinished blob of that many bytes in all."""
        if total > self.limit:
            raise TooLargeError(
                f"a blob of {gib(total)} is more than the {gib(self.limit)} the mirror keeps: "
                "give it a larger size, or set spec.source.mirror to false"
            )
        self._make_room(total - self._held[path].size)
        self._resize(path, total)

    def _resize(self, path: Path, size: int) -> None:
        if path in self._held:
            self.used += size - self._held[path].size
            self._held[path].size = size

    def keep(self, path: Path, digest: str) -> None:
        """Give an unfinished blob its name."""
        blob = self._blob(digest)
        path.rename(blob)
        self._held[blob] = self._held.pop(path)

    def drop(self, path: Path) -> None:
        """Remove a file."""
        path.unlink(missing_ok=True)
        self.used -= self._held.pop(path).size

    def _make_room(self, wanted: int) -> None:
        """Remove what was longest unused until `wanted` bytes more fit; raises NoRoomError."""
        idle = [path for path, held in self._held.items() if not held.users]
        if self.used + wanted - sum(self._held[path].size for path in idle) > self.limit:
            raise NoRoomError(
                f"no room for {gib(wanted)} more: all of the {gib(self.limit)} the mirror keeps is "
                "in use; give it a larger size if this goes on",
                _BUSY_SECONDS,
            )
        for path in idle:
            if self.used + wanted <= self.limit:
                return
            log.info("removing %s, %s: longest unused", path.name, gib(self._held[path].size))
            self.drop(path)
            self._evicted()

    @contextmanager
    def _using(self, path: Path) -> Iterator[None]:
        self._held.move_to_end(path)
        held = self._held[path]  # stays the same when the file gets another name
        held.users += 1
        try:
            yield
        finally:
            held.users -= 1

    def _blob(self, digest: str) -> Path:
        return self._blobs / digest.replace(":", "-")

    def _partial(self, digest: str) -> Path:
        return self._partials / digest.replace(":", "-")

    def _files(self) -> Iterator[Path]:
        for folder in (self._blobs, self._partials):
            yield from (path for path in folder.iterdir() if path.is_file())


class Partial:
    """An unfinished blob that is being written, by one writer."""

    def __init__(self, store: Store, digest: str, path: Path, file: FileIO) -> None:
        self._store, self._digest, self._path = store, digest, path
        self.file = file

    def expect(self, total: int) -> None:
        """Make room for the whole; raises TooLargeError, NoRoomError."""
        self._store.grow(self._path, total)

    def sync(self) -> None:
        """Have every byte on the disk; takes a while."""
        os.fsync(self.file.fileno())

    def keep(self) -> None:
        """The blob is whole and verified: have it under its name."""
        self._store.keep(self._path, self._digest)

    def drop(self) -> None:
        """The bytes are wrong: forget them."""
        self._store.drop(self._path)
