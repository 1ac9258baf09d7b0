"""Each test here runs against the emulator and against the real Ollama: a difference between
the two is a fault of the emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
import pytest

from dev.ollama import process
from dev.ollama.library import ENDLESS
from ollama_fleet.ollama.client import OllamaClient
from tests.component.ollama.emulating import BASE, Start

CHAT = "llama3.1:8b"
EMBED = "all-minilm:latest"


@dataclass(frozen=True)
class RegistryAt:
    """The registry of stand-ins: its URL, and the environment that leads to it."""

    url: str
    environment: dict[str, str]

    def stats(self) -> dict[str, int]:
        return dict(httpx2.get(f"{self.url}/_registry/stats", trust_env=False).json())

    def fault(self, **values: object) -> None:
        httpx2.post(f"{self.url}/_registry/faults", json=values, trust_env=False)

    def clear(self) -> None:
        httpx2.delete(f"{self.url}/_registry/faults", trust_env=False)


@pytest.fixture(scope="session")
def registry() -> Iterator[RegistryAt]:
    with process.registry() as (url, environment):
        yield RegistryAt(url, environment)


@pytest.fixture(scope="session", params=["emulator", "real"])
def server(
    request: pytest.FixtureRequest,
    registry: RegistryAt,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[process.Server]:
    """A server with a chat model, an embedding model and one that never ends."""
    env = {
        **registry.environment,
        "OLLAMA_NUM_PARALLEL": "1",
        "OLLAMA_CONTEXT_LENGTH": "4096",
        "EMULATOR_TOKENS_PER_SECOND": "2000",
    }
    with process.server(request.param, tmp_path_factory.mktemp(request.param), env) as running:
        with ThreadPoolExecutor() as pool:  # a real pull takes a second for each layer
            assert all(pool.map(partial(pull, running.url), (CHAT, EMBED, ENDLESS)))
        yield running


def pull(url: str, model: str) -> bool:
    body = {"model": model, "stream": False}
    answer = httpx2.post(f"{url}/api/pull", json=body, timeout=30, trust_env=False)
    return bool(answer.json() == {"status": "success"})


@pytest.fixture
async def http(server: process.Server) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=server.url, timeout=20, verify=False, trust_env=False
    ) as client:
        yield client


@pytest.fixture
async def client(server: process.Server) -> AsyncIterator[OllamaClient]:
    async with OllamaClient(server.url, timeout=20) as client:
        yield client


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts emulators; each call gives a client of a new one."""
    running: list[tuple[AbstractContextManager[process.Server], OllamaClient]] = []

    def begin(**env: str) -> OllamaClient:
        directory = tmp_path / str(len(running))
        context = process.server("emulator", directory, {**BASE, **env})
        client = OllamaClient(context.__enter__().url, timeout=10)
        running.append((context, client))
        return client

    yield begin
    for context, client in running:
        await client.close()
        context.__exit__(None, None, None)
