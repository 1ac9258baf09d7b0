"""What a model needs, as computed and as the real Ollama logs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dev.ollama import process
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.plan.architecture import architecture_of
from ollama_fleet.plan.sizing import Load, cache
from tests.component.ollama.conftest import CHAT, RegistryAt, pull


@pytest.mark.parametrize(("context", "parallel"), [(5000, 2), (200_000, 1)])
async def test_the_cache_is_as_large_as_computed(
    registry: RegistryAt, tmp_path: Path, context: int, parallel: int
) -> None:
    env = {
        **registry.environment,
        "OLLAMA_CONTEXT_LENGTH": str(context),
        "OLLAMA_NUM_PARALLEL": str(parallel),
    }
    with process.server("real", tmp_path, env) as server:
        assert pull(server.url, CHAT)
        async with OllamaClient(server.url) as client:
            shape = architecture_of((await client.show(CHAT)).model_info)
            await client.load(CHAT)
        logged = re.findall(r"KV buffer size = +([0-9.]+) MiB", server.log)
    assert shape is not None
    load = Load(context, parallel).serving(shape)
    assert [f"{cache(shape, load) / 2**20:.2f}"] == logged
