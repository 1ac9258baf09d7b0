"""Mirrors as child processes, and what to ask of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from dev.ollama import process
from dev.ollama.registry import Registry
from ollama_fleet.ollama.registry import Layer, parse_manifest

MODEL = "llama3.2:1b"
MANIFEST = "/v2/library/llama3.2/manifests/1b"


@dataclass(frozen=True, slots=True)
class Mirror:
    """A running mirror."""

    server: process.Server

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def log(self) -> str:
        return self.server.log

    @property
    def blobs(self) -> set[str]:
        """The digests it holds for good."""
        folder = self.server.directory / "blobs"
        return {path.name.replace("-", ":") for path in folder.iterdir()}

    def kill(self) -> None:
        self.server.kill()

    async def manifest(self) -> list[Layer]:
        """The blobs of MODEL, the largest first."""
        answer = await self.get(MANIFEST)
        assert answer.status_code == 200, answer.text
        found = parse_manifest(answer.content)
        return sorted((found.config, *found.layers), key=lambda layer: -layer.size)

    async def get(self, path: str, method: str = "GET", **headers: str) -> httpx2.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client(self.url) as http:
            return await http.request(method, path, headers=given)

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = (await self.get("/metrics")).text
        found = re.findall(rf"^ollama_fleet_mirror_{name}(?:\{{.*\}})? (\S+)$", text, re.M)
        return sum(map(float, found))


def client(url: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncClient(base_url=url, timeout=20, limits=limits, trust_env=False)


def blob(digest: str, namespace: str = "library") -> str:
    return f"/v2/{namespace}/llama3.2/blobs/{digest}"


@contextmanager
def mirror(
    directory: Path, *arguments: str, env: Mapping[str, str] | None = None, size: str = "1Gi"
) -> Iterator[Mirror]:
    """Run a mirror until it is left; unless it was killed, it has to end well."""
    with process.mirror(directory, f"--size={size}", *arguments, env=env) as server:
        yield Mirror(server)
        killed = server.process.poll() is not None
    assert killed or server.process.returncode == 0, server.log
    assert "Traceback" not in server.log


def led_to(registry: Registry) -> dict[str, str]:
    """What sends a mirror to the stand-in where it means registry.ollama.ai."""
    return registry.environment()


async def until(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        await asyncio.sleep(0.01)
