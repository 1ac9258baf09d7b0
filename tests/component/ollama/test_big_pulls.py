"""Pulls of models in their real size, at a set speed, and what goes wrong with them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.ollama import process
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import PullFailed, Unreachable
from ollama_fleet.ollama.registry import RegistryClient
from tests.component.ollama.emulating import Start, fault


@pytest.fixture(scope="module")
def sized_registry() -> Iterator[dict[str, str]]:
    """A registry whose models have their real sizes."""
    with process.registry("--form", "sized") as (_, environment):
        yield environment


async def test_a_big_model_is_pulled_at_the_set_speed(
    start: Start, sized_registry: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(**sized_registry, EMULATOR_MODELS="", EMULATOR_PULL_BYTES_PER_SECOND="20G")
    for name, value in sized_registry.items():
        monkeypatch.setenv(name, value)
    async with RegistryClient() as registry:
        manifest = await registry.manifest("gpt-oss:20b")
    assert manifest.size == pytest.approx(13.79e9, rel=0.001)
    began = time.monotonic()
    lines = [line async for line in client.pull("gpt-oss:20b")]
    assert time.monotonic() - began > 0.6
    seen = [line.completed for line in lines if line.total > 10**9]
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    model = (await client.tags())[0]
    assert (model.name, model.digest, model.size) == (
        "gpt-oss:20b",
        manifest.digest,
        manifest.size,
    )
    assert (await client.show("gpt-oss:20b")).model_info["gptoss.block_count"] == 24


async def test_a_killed_server_resumes_its_pull(
    tmp_path: Path, sized_registry: dict[str, str]
) -> None:
    env = {**sized_registry, "EMULATOR_PULL_BYTES_PER_SECOND": "4G"}
    with process.server("emulator", tmp_path, env) as first:
        async with OllamaClient(first.url) as client:
            lines = client.pull("gpt-oss:20b")
            while (await anext(lines)).completed < 5 * 10**9:
                pass
            first.kill()
            with pytest.raises(Unreachable):
                _ = [line async for line in lines]
    with process.server("emulator", tmp_path, env) as second:
        async with OllamaClient(second.url) as client:
            again = [line async for line in client.pull("gpt-oss:20b")]
            assert next(line.completed for line in again if line.total) > 2 * 10**9
            assert again[-1].status == "success"


async def test_a_stuck_pull_resumes_after_it_is_left(
    start: Start, sized_registry: dict[str, str]
) -> None:
    client = start(**sized_registry, EMULATOR_MODELS="")
    await fault(client, kind="stuck_pull", count=1)
    last = 0
    async for line in client.pull("gpt-oss:20b"):
        if line.total and line.completed == last and line.completed >= 0.98 * line.total:
            break
        last = line.completed
    assert await client.tags() == []
    lines = [line async for line in client.pull("gpt-oss:20b")]
    assert next(line.completed for line in lines if line.total) >= 0.98 * 13.79e9
    assert lines[-1].status == "success"


@pytest.mark.parametrize(
    ("kind", "message"),
    [("disk_full", "no space left on device"), ("digest_mismatch", "digest mismatch")],
)
async def test_a_failed_pull(
    start: Start, sized_registry: dict[str, str], kind: str, message: str
) -> None:
    client = start(**sized_registry, EMULATOR_MODELS="")
    await fault(client, kind=kind, count=1, fraction=0.5)
    with pytest.raises(PullFailed, match=message):
        async for _ in client.pull("gpt-oss:20b"):
            pass
    assert await client.tags() == []
    assert [line async for line in client.pull("gpt-oss:20b")][-1].status == "success"
