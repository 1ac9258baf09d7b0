"""Manifests: kept on disk, asked for again by age, and served old while the registry is gone."""

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from ollama_fleet.api.names import ModelName
from ollama_fleet.api.quantity import gib
from ollama_fleet.mirror.errors import (
    BadAnswerError,
    ManifestUnknownError,
    MirrorError,
    TooLargeError,
)
from ollama_fleet.mirror.metrics import Metrics
from ollama_fleet.mirror.upstream import Upstream
from ollama_fleet.ollama.errors import RegistryError
from ollama_fleet.ollama.registry import MANIFEST_TYPE, parse_manifest

log = logging.getLogger(__name__)

AWAY_SECONDS = 15.0
"""How long a registry that did not answer is not asked for what is here: each who asks would have
to wait until it is clear once more."""
_SIZES_KNOWN = 100_000


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's bytes, their type, and how many seconds ago the registry confirmed them."""

    content: bytes
    age: float

    @property
    def media_type(self) -> str:
        """What it says it is."""
        return str(json.loads(self.content).get("mediaType") or MANIFEST_TYPE)

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of its bytes."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"


class Manifests:
    """Under `manifests/` in `directory`. One not older than `age` seconds is served as it is; a
    model with a blob of more than `largest` bytes is refused before its download begins."""

    def __init__(
        self, directory: Path, upstream: Upstream, metrics: Metrics, age: float, largest: int
    ) -> None:
        self._directory = directory / "manifests"
        self._upstream = upstream
        self._metrics = metrics
        self._age = age
        self._largest = largest
        self._asking: dict[Path, asyncio.Task[bytes]] = {}
        self._away: dict[str, float] = {}
        self._sizes: OrderedDict[str, int] = OrderedDict()

    async def get(self, name: ModelName) -> Manifest:
        """A model's manifest; raises MirrorError."""
        path = self._directory / name.host.lower() / name.namespace / name.model / name.tag
        kept = _read(path)
        if kept and kept.age <= self._age:
            self._metrics.manifests.labels("hit").inc()
            return self._checked(name, kept)
        if kept and self._away.get(name.host, 0.0) > time.monotonic():
            self._metrics.manifests.labels("stale").inc()
            return self._checked(name, kept)
        try:
            content = await self._ask(path, name)
        except MirrorError as error:
            if kept is None or not error.passing:
                raise
            log.warning("%s; serving what it said %.0f s ago", error, kept.age)
            self._away[name.host] = time.monotonic() + AWAY_SECONDS
            self._metrics.manifests.labels("stale").inc()
            return self._checked(name, kept)
        self._metrics.manifests.labels("fetched").inc()
        return self._checked(name, Manifest(content, 0.0))

    def size_of(self, digest: str) -> int | None:
        """The bytes of a blob that a manifest served lately tells of."""
        return self._sizes.get(digest)

    async def _ask(self, path: Path, name: ModelName) -> bytes:
        """Ask the registry, once for all who want to know at this moment."""
        task = self._asking.get(path)
        if task is None:
            task = asyncio.create_task(self._fetch(path, name), name=f"manifest {name}")
            self._asking[path] = task
            task.add_done_callback(lambda _: self._asking.pop(path))
        return await asyncio.shield(task)

    async def _fetch(self, path: Path, name: ModelName) -> bytes:
        try:
            content = await self._upstream.manifest(name)
        except ManifestUnknownError:
            _forget(path)
            raise
        try:
            parse_manifest(content)
        except RegistryError as error:
            raise BadAnswerError(f"{name.host}: {name.canonical}: {error}") from error
        try:
            _write(path, content)
        except OSError as error:
            log.warning("%s cannot be kept: %s", name.canonical, error.strerror)
        return content

    def _checked(self, name: ModelName, manifest: Manifest) -> Manifest:
        parsed = parse_manifest(manifest.content)
        for layer in (parsed.config, *parsed.layers):
            if layer.size > self._largest:
                raise TooLargeError(
                    f"{name.canonical} has a blob of {gib(layer.size)}, the mirror keeps "
                    f"{gib(self._largest)} in all: give it a larger size, or set "
                    "spec.source.mirror to false"
                )
            self._sizes[layer.digest] = layer.size
        while len(self._sizes) > _SIZES_KNOWN:
            self._sizes.popitem(last=False)
        return manifest


def _read(path: Path) -> Manifest | None:
    try:
        return Manifest(path.read_bytes(), max(0.0, time.time() - path.stat().st_mtime))
    except OSError:
        return None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}~")  # no tag has a ~
    new.write_bytes(content)
    new.replace(path)


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
