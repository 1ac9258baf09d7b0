"""Mirrors as child processes, and what to ask of them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from dev.ollama.registry import Registry
from ollama_fleet.ollama.registry import Layer, parse_manifest

MODEL = "llama3.2:1b"
MANIFEST = "/v2/library/llama3.2/manifests/1b"
_SERVING = re.compile(r"serving on \S+ port (\d+)")
_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Mirror:
    """A running mirror."""

    port: int
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return _log(self.directory).read_text()

    @property
    def blobs(self) -> set[str]:
        """The digests it holds for good."""
        folder = self.directory / "blobs"
        return {path.name.replace("-", ":") for path in folder.iterdir()}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def manifest(self) -> list[Layer]:
        """The blobs of MODEL, the largest first."""
        answer = await self.get(MANIFEST)
        assert answer.status_code == 200, answer.text
        found = parse_manifest(answer.content)
        return sorted((found.config, *found.layers), key=lambda layer: -layer.size)

    async def get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client(self.url) as http:
            return await http.request(method, path, headers=given)

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = (await self.get("/metrics")).text
        found = re.findall(rf"^ollama_fleet_mirror_{name}(?:\{{.*\}})? (\S+)$", text, re.M)
        return sum(map(float, found))


def client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=20, limits=limits, trust_env=False)


def blob(digest: str, namespace: str = "library") -> str:
    return f"/v2/{namespace}/llama3.2/blobs/{digest}"


@contextmanager
def mirror(
    directory: Path, *arguments: str, env: Mapping[str, str] | None = None, size: str = "1Gi"
) -> Iterator[Mirror]:
    """Run a mirror until it is left; ended by SIGTERM it has to say nothing is wrong."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ollama_fleet.mirror.main", "--host=127.0.0.1", "--port=0"]
    command += [f"--directory={directory}", f"--size={size}", *arguments]
    with _log(directory).open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **(env or {})}, stdout=output, stderr=output
        )
    try:
        yield Mirror(_port(process, directory), directory, process)
        killed = process.poll() is not None
        process.send_signal(signal.SIGTERM)
        assert killed or process.wait(10) == 0
        assert "Traceback" not in _log(directory).read_text()
    finally:
        process.kill()
        process.wait()


def led_to(registry: Registry) -> dict[str, str]:
    """What sends a mirror to the stand-in where it means registry.ollama.ai."""
    return registry.environment()


async def until(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        await asyncio.sleep(0.01)


def _log(directory: Path) -> Path:
    return directory / "log"


def _port(process: subprocess.Popen[bytes], directory: Path) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        found = _SERVING.search(_log(directory).read_text())
        if found:
            return int(found[1])
        assert process.poll() is None, _log(directory).read_text()
        time.sleep(0.01)
    raise AssertionError(f"not serving: {_log(directory).read_text()}")
