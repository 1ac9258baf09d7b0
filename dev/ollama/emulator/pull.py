# ruff: noqa: ASYNC230, ASYNC240 -- small files on a local disk
"""Pulls: a model's blobs from a registry, resumed from partial files, verified by digest.

A registry of stand-ins marks blobs whose bytes from some offset on are synthetic
(X-Synthetic-From); of those the real bytes are fetched, and the rest is only waited for.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from dev.ollama import gguf_header, library
from dev.ollama.emulator.bodies import read_body
from dev.ollama.emulator.faults import Fault, Faults
from dev.ollama.emulator.generation import Refused
from dev.ollama.emulator.native import parse_name
from dev.ollama.emulator.server import Exchange
from dev.ollama.emulator.settings import Settings
from dev.ollama.emulator.stats import Stats
from dev.ollama.emulator.store import Store
from ollama_fleet.api.names import ModelName

SYNTHETIC_FROM = "x-synthetic-from"
_REPORT_SECONDS = 0.06
_STEP_SECONDS = 0.05
_SAVE_SECONDS = 0.5
_TRIES = 6
_FAULTS = ("stuck_pull", "disk_full", "digest_mismatch")


class PullError(Exception):
    """A pull's end, as its last line words it."""


@dataclass(slots=True)
class _Part:
    """A download's state on disk, in Ollama's own form: one part for the whole blob."""

    path: Path
    size: int
    completed: int

    @classmethod
    def read(cls, blob: Path) -> _Part | None:
        path = Path(f"{blob}-partial-0")
        try:
            state = json.loads(path.read_bytes())
            return cls(path, int(state["Size"]), int(state["Completed"]))
        except (OSError, ValueError, KeyError):
            return None

    def save(self) -> None:
        state = {"N": 0, "Offset": 0, "Size": self.size, "Completed": self.completed}
        self.path.write_text(json.dumps(state))


class _Download:
    """One blob on its way; pulls of models that share it share the download."""

    def __init__(self) -> None:
        self.size = 0
        self.completed = 0
        self.lock = asyncio.Lock()


class PullApi:
    """The handler of /api/pull."""

    def __init__(self, settings: Settings, store: Store, faults: Faults, stats: Stats) -> None:
        self._settings = settings
        self._store = store
        self._faults = faults
        self._stats = stats
        self._downloads: dict[str, _Download] = {}

    async def pull(self, exchange: Exchange) -> None:
        """POST /api/pull."""
        body = read_body(exchange.body, "api.PullRequest")
        name = parse_name(body.get("model") or body.get("name") or "", 400, "invalid model name")
        lines = self._pull(name, bool(body.get("insecure")))
        self._stats.pulls += 1
        if not body.get("stream", True):
            try:
                last = [line async for line in lines][-1]
            except PullError as error:
                raise Refused(500, str(error)) from None
            exchange.send_json(200, last)
            return
        exchange.begin("application/x-ndjson")
        try:
            async for line in lines:
                exchange.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        except PullError as error:
            exchange.write(json.dumps({"error": str(error)}).encode() + b"\n")
        exchange.end()

    async def _pull(self, name: ModelName, insecure: bool) -> AsyncIterator[dict[str, Any]]:
        yield {"status": "pulling manifest"}
        registry = f"{'http' if insecure else 'https'}://{name.host}"
        fault = self._fault(name)
        previous = self._store.get(name)
        async with httpx2.AsyncClient(timeout=30) as http:
            manifest = await _manifest(http, registry + name.manifest_path)
            layers = [*manifest["layers"], manifest["config"]]
            fresh = []
            for layer in layers:
                digest = layer["digest"]
                blob = self._store.blob(digest)
                if blob.exists():
                    size = blob.stat().st_size
                    yield _progress(digest, size, size)
                    continue
                fresh.append(digest)
                at_model = fault if layer["mediaType"].endswith(".model") else None
                url = registry + name.blob_path(digest)
                async for line in self._download(http, url, digest, at_model):
                    yield line
        yield {"status": "verifying sha256 digest"}
        for digest in fresh:
            await self._verify(digest, fault)
        yield {"status": "writing manifest"}
        self._store.write_manifest(name, json.dumps(manifest, separators=(",", ":")).encode())
        if previous is not None:
            kept = {layer["digest"] for layer in layers}
            unused = {layer["digest"] for layer in previous.layers} - kept
            if unused:
                yield {"status": "removing unused layers"}
                self._store.prune(unused)
        yield {"status": "success"}

    def _fault(self, name: ModelName) -> Fault | None:
        struck = (self._faults.strike(kind, "/api/pull", name.canonical) for kind in _FAULTS)
        return next((fault for fault in struck if fault), None)

    async def _download(
        self, http: httpx2.AsyncClient, url: str, digest: str, fault: Fault | None
    ) -> AsyncIterator[dict[str, Any]]:
        """Fetch one blob, with a line of progress every 60 ms. Leaving it early stops the
        download and keeps what is there."""
        download = self._downloads.setdefault(digest, _Download())
        task = asyncio.create_task(self._fetch(http, url, digest, download, fault))
        try:
            while not task.done():
                await asyncio.wait([task], timeout=_REPORT_SECONDS)
                if download.size:
                    yield _progress(digest, download.size, download.completed)
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def _fetch(
        self,
        http: httpx2.AsyncClient,
        url: str,
        digest: str,
        download: _Download,
        fault: Fault | None,
    ) -> None:
        blob = self._store.blob(digest)
        async with download.lock:
            if blob.exists():
                return
            real = await self._prepare(http, url, blob, download)
            part = _Part.read(blob)
            assert part is not None
            try:
                with Path(f"{blob}-partial").open("r+b") as file:
                    await self._receive_real(http, url, file.fileno(), part, real, download, fault)
                await self._receive_synthetic(part, download, fault)
            finally:
                part.save()
            part.path.unlink()
            Path(f"{blob}-partial").rename(blob)
        self._downloads.pop(digest, None)

    async def _prepare(
        self, http: httpx2.AsyncClient, url: str, blob: Path, download: _Download
    ) -> int:
        """Find the blob's size and make its partial files; gives the number of real bytes."""
        head = await _request(http, "HEAD", url)
        size = int(head.headers.get("content-length", 0))
        part = _Part.read(blob)
        partial = Path(f"{blob}-partial")
        if part is None or not partial.exists() or part.size != size:
            part = _Part(Path(f"{blob}-partial-0"), size, 0)
            part.save()
        with partial.open("ab") as file:
            file.truncate(size)
        download.size, download.completed = size, part.completed
        return int(head.headers.get(SYNTHETIC_FROM, size))

    async def _receive_real(
        self,
        http: httpx2.AsyncClient,
        url: str,
        file: int,
        part: _Part,
        real: int,
        download: _Download,
        fault: Fault | None,
    ) -> None:
        """Fetch the real bytes that are missing, again after an error as often as Ollama."""
        for attempt in range(_TRIES):
            if part.completed >= real:
                return
            try:
                await self._receive_range(http, url, file, part, real, download, fault)
            except httpx2.HTTPError as error:
                if attempt == _TRIES - 1:
                    raise PullError(f"max retries exceeded: {error}") from error
                await asyncio.sleep(2**attempt)

    async def _receive_range(
        self,
        http: httpx2.AsyncClient,
        url: str,
        file: int,
        part: _Part,
        real: int,
        download: _Download,
        fault: Fault | None,
    ) -> None:
        limit = int(part.size * fault.fraction) if fault else part.size
        location = await _direct_url(http, url)
        headers = {"Range": f"bytes={part.completed}-{real - 1}"}
        saved = time.monotonic()
        async with http.stream("GET", location, headers=headers) as response:
            response.raise_for_status()
            async for chunk in response.aiter_raw():
                os.pwrite(file, chunk, part.completed)
                self._advance(part, download, len(chunk))
                if fault is not None and part.completed >= limit:
                    await self._strike(fault, part)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    part.save()
                    saved = time.monotonic()
                if self._settings.pull_bytes_per_second:
                    await asyncio.sleep(len(chunk) / self._settings.pull_bytes_per_second)

    async def _receive_synthetic(
        self, part: _Part, download: _Download, fault: Fault | None
    ) -> None:
        """Wait as long as the rest would take."""
        limit = int(part.size * fault.fraction) if fault else part.size
        speed = self._settings.pull_bytes_per_second
        last = saved = time.monotonic()
        while part.completed < part.size:
            if fault is not None and part.completed >= limit:
                await self._strike(fault, part)
            room = (limit if part.completed < limit else part.size) - part.completed
            if speed:
                await asyncio.sleep(min(_STEP_SECONDS, room / speed))
                now = time.monotonic()
                self._advance(part, download, min(room, max(1, int((now - last) * speed))))
                last = now
            else:
                await asyncio.sleep(0)
                self._advance(part, download, room)
            if time.monotonic() - saved > _SAVE_SECONDS:
                part.save()
                saved = time.monotonic()

    async def _strike(self, fault: Fault, part: _Part) -> None:
        if fault.kind == "stuck_pull":
            await asyncio.Event().wait()
        if fault.kind == "disk_full":
            partial = str(part.path).removesuffix("-0")
            raise PullError(f"write {partial}: no space left on device")

    def _advance(self, part: _Part, download: _Download, size: int) -> None:
        part.completed += size
        download.completed = part.completed
        self._stats.pulled_bytes += size

    async def _verify(self, digest: str, fault: Fault | None) -> None:
        blob = self._store.blob(digest)
        found = await asyncio.to_thread(_digest, blob)
        if fault is not None and fault.kind == "digest_mismatch":
            found = "sha256:" + "0" * 64
        if found != digest:
            blob.unlink()
            raise PullError(
                f"digest mismatch, file must be downloaded again: want {digest}, got {found}"
            )


async def _manifest(http: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    try:
        response = await http.get(url, headers={"Accept": library.MANIFEST_TYPE})
    except httpx2.HTTPError as error:
        raise PullError(f'pull model manifest: Get "{url}": {error}') from error
    if response.status_code == httpx2.codes.NOT_FOUND:
        raise PullError("pull model manifest: file does not exist")
    if response.status_code != httpx2.codes.OK:
        raise PullError(f"pull model manifest: {response.status_code}: {response.text}")
    try:
        manifest = response.json()
        return {key: manifest[key] for key in ("schemaVersion", "mediaType", "config", "layers")}
    except (ValueError, KeyError, TypeError) as error:
        raise PullError(f"pull model manifest: {error}") from error


async def _direct_url(http: httpx2.AsyncClient, url: str) -> str:
    response = await _request(http, "GET", url, follow=False)
    location = response.headers.get("location")
    if location is None:
        raise PullError("http: no Location header in response")
    return str(response.url.join(location))


async def _request(
    http: httpx2.AsyncClient, method: str, url: str, follow: bool = True
) -> httpx2.Response:
    async with http.stream(method, url, follow_redirects=follow) as response:
        if response.status_code >= httpx2.codes.BAD_REQUEST:
            text = (await response.aread()).decode(errors="replace")
            raise PullError(f"{response.status_code}: {text}")
        return response


def _digest(blob: Path) -> str:
    """The digest of a blob; of a synthetic one (a GGUF header and a hole), as the library has
    it."""
    with blob.open("rb") as file:
        size = blob.stat().st_size
        if blob.stat().st_blocks * 512 >= size:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        gguf_header.read(file)
        real = file.tell()
        file.seek(0)
        return library.content_digest(library.Blob(file.read(real), size))


def _progress(digest: str, total: int, completed: int) -> dict[str, Any]:
    line = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total}
    return {**line, "completed": completed} if completed else line
