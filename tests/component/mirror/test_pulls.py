"""Servers that pull through the mirror: the emulator, and the real Ollama."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dev.ollama import process
from dev.ollama.registry import Fault, Registry
from ollama_fleet.api.mirror import at_mirror
from ollama_fleet.api.names import ModelName
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import PullFailed
from tests.component.mirror.mirrors import MODEL, led_to, mirror, until

KINDS = pytest.mark.parametrize("kind", ["emulator", "real"])


async def pull(url: str, name: ModelName) -> None:
    """Pull through the mirror, and give the model its own name."""
    async with OllamaClient(url, timeout=20) as client:
        lines = [line async for line in client.pull(name.qualified, insecure=True)]
        assert lines[-1].status == "success"
        await client.copy(name.qualified, MODEL)
        await client.delete(name.qualified)
        (model,) = await client.tags()
        assert model.name == MODEL
        await client.load(MODEL)


@KINDS
async def test_servers_pull_once(kind: str, tmp_path: Path) -> None:
    async with Registry() as registry:
        with (
            mirror(tmp_path / "mirror", env=led_to(registry)) as running,
            process.server(kind, tmp_path / "a") as one,
            process.server(kind, tmp_path / "b") as other,
        ):
            name = at_mirror(ModelName.parse(MODEL), running.address)
            await asyncio.gather(pull(one.url, name), pull(other.url, name))
            size = sum(layer.size for layer in await running.manifest())
            assert registry.served_bytes == size
            assert registry.requests["manifest"] == 1


@KINDS
async def test_a_server_finds_wrong_bytes(kind: str, tmp_path: Path) -> None:
    async with Registry() as registry:
        with (
            mirror(tmp_path / "mirror", env=led_to(registry)) as running,
            process.server(kind, tmp_path / "a") as server,
        ):
            name = at_mirror(ModelName.parse(MODEL), running.address)
            big = (await running.manifest())[0]
            registry.faults.append(Fault("wrong_bytes", big.digest, 1000))
            # what it had of the wrong bytes it keeps, and finds them itself in the end
            with pytest.raises(PullFailed, match="digest mismatch"):
                await pull(server.url, name)
            assert "they were thrown away" in running.log
            assert big.digest in running.blobs
            await pull(server.url, name)


@KINDS
async def test_a_refusal_reaches_whoever_pulls(kind: str, tmp_path: Path) -> None:
    async with Registry() as registry:
        with (
            mirror(tmp_path / "mirror", env=led_to(registry), size="1M") as running,
            process.server(kind, tmp_path / "a") as server,
        ):
            name = at_mirror(ModelName.parse(MODEL), running.address)
            async with OllamaClient(server.url, timeout=20) as client:
                with pytest.raises(PullFailed, match="give it a larger size"):
                    _ = [line async for line in client.pull(name.qualified, insecure=True)]


@KINDS
async def test_a_pull_outlives_the_mirror(kind: str, tmp_path: Path) -> None:
    async with Registry(rate=4_000_000) as registry:
        folder, env = tmp_path / "mirror", led_to(registry)
        with process.server(kind, tmp_path / "a") as server:
            with mirror(folder, env=env) as first:
                address = first.address
                name = at_mirror(ModelName.parse(MODEL), address)
                size = sum(layer.size for layer in await first.manifest())
                pulling = asyncio.create_task(pull(server.url, name))
                await until(lambda: registry.served_bytes > size // 2, "half of it is there")
                first.kill()
            with mirror(folder, f"--port={address.rpartition(':')[2]}", env=env):
                await asyncio.wait_for(pulling, 30)
        assert registry.served_bytes < size + 1_000_000


async def test_a_server_that_is_killed_goes_on_at_the_mirror(tmp_path: Path) -> None:
    """The real server's parts, asked for again by a new process."""
    async with Registry(rate=4_000_000) as registry:
        with mirror(tmp_path / "mirror", env=led_to(registry)) as running:
            name = at_mirror(ModelName.parse(MODEL), running.address)
            size = sum(layer.size for layer in await running.manifest())
            with process.server("real", tmp_path / "a") as first:
                async with OllamaClient(first.url, timeout=20) as client:
                    async for line in client.pull(name.qualified, insecure=True):
                        if line.completed > 1_000_000:
                            first.kill()
                            break
            with process.server("real", tmp_path / "a") as second:
                await pull(second.url, name)
            assert registry.served_bytes == size
