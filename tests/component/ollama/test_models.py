"""What the fleet does with servers: list, show, pull, copy, delete, load, unload."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from dev.ollama import process
from ollama_fleet.api.names import ModelName
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import ModelNotFound, OllamaResponseError, PullFailed
from ollama_fleet.ollama.progress import Progress
from ollama_fleet.ollama.registry import MODEL_LAYER, RegistryClient
from ollama_fleet.ollama.wire import PullProgress
from ollama_fleet.plan.architecture import architecture_of
from tests.component.ollama.conftest import CHAT, EMBED, RegistryAt
from tests.component.ollama.waiting import until


async def installed(client: OllamaClient) -> dict[str, str]:
    return {model.name: model.digest for model in await client.tags()}


async def pulled(client: OllamaClient, model: str) -> list[PullProgress]:
    return [line async for line in client.pull(model)]


async def test_root_and_version(http: httpx2.AsyncClient, client: OllamaClient) -> None:
    for method in ("GET", "HEAD"):
        response = await http.request(method, "/")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.text == ("Ollama is running" if method == "GET" else "")
    assert (await http.head("/api/tags")).status_code == 200
    assert await client.version() == "0.17.4"


async def test_tags(client: OllamaClient) -> None:
    model = next(model for model in await client.tags() if model.name == CHAT)
    assert model.model == CHAT
    assert model.size > 390_000
    assert len(model.digest) == 64
    assert abs(datetime.now(UTC) - model.modified_at) < timedelta(minutes=5)
    assert model.details.family == "llama"
    assert model.details.format == "gguf"
    assert model.details.quantization_level == "F32"


async def test_digest_and_size_are_the_registry_s(
    client: OllamaClient, registry: RegistryAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in registry.environment.items():
        monkeypatch.setenv(name, value)
    async with RegistryClient() as at_default:
        manifest = await at_default.manifest(CHAT)
    model = next(model for model in await client.tags() if model.name == CHAT)
    assert manifest.digest == model.digest
    assert manifest.size == model.size
    assert manifest.layers[0].media_type == "application/vnd.ollama.image.model"


async def test_models_lie_on_disk_in_ollamas_layout(server: process.Server) -> None:
    manifest = server.models / "manifests/registry.ollama.ai/library/llama3.1/8b"
    assert b'"schemaVersion":2' in manifest.read_bytes()
    for blob in (server.models / "blobs").glob("sha256-????????????????????????????????*"):
        if "-partial" not in blob.name:
            assert blob.name == f"sha256-{hashlib.sha256(blob.read_bytes()).hexdigest()}"


async def test_show(client: OllamaClient) -> None:
    model = await client.show(CHAT)
    assert model.model_info["general.architecture"] == "llama"
    assert model.model_info["llama.block_count"] == 2
    assert model.model_info["llama.embedding_length"] == 64
    assert model.model_info["llama.attention.head_count_kv"] == 4
    assert model.model_info["llama.context_length"] == 131072
    assert "general.name" not in model.model_info
    assert model.capabilities == ("completion",)
    assert "num_thread                     1" in model.parameters
    assert "<|assistant|>" in model.template
    assert (await client.show(EMBED)).capabilities == ("embedding",)


async def test_show_takes_name_for_model(http: httpx2.AsyncClient) -> None:
    response = await http.post("/api/show", json={"model": "", "name": CHAT})
    assert response.status_code == 200


async def test_copy_and_delete(client: OllamaClient) -> None:
    await client.copy(CHAT, "team/copy:v1")
    models = await installed(client)
    assert models["team/copy:v1"] == models[CHAT]
    await client.delete("team/copy:v1")
    assert "team/copy:v1" not in await installed(client)
    await client.show(CHAT)
    with pytest.raises(ModelNotFound) as raised:
        await client.delete("team/copy:v1")
    assert raised.value.model == "team/copy:v1"


async def test_unknown_models_raise(client: OllamaClient) -> None:
    for call in (client.show("nope"), client.copy("nope", "x"), client.load("nope")):
        with pytest.raises(ModelNotFound):
            await call


async def test_pull_of_an_unknown_model(client: OllamaClient) -> None:
    with pytest.raises(ModelNotFound, match=r"the registry has no llama3\.1:9b"):
        await pulled(client, "llama3.1:9b")
    with pytest.raises(OllamaResponseError, match="invalid model name"):
        await pulled(client, "x y")


async def test_pull_unstreamed_of_an_unknown_model(http: httpx2.AsyncClient) -> None:
    response = await http.post("/api/pull", json={"model": "llama3.1:9b", "stream": False})
    assert response.status_code == 500
    assert response.json() == {"error": "pull model manifest: file does not exist"}


async def test_pull_without_a_way_to_the_registry(client: OllamaClient) -> None:
    with pytest.raises(PullFailed, match="pull model manifest: "):
        await pulled(client, "127.0.0.1:1/library/x:y")


async def test_pull_says_what_it_does(client: OllamaClient) -> None:
    lines = await pulled(client, "qwen3:4b")
    statuses = [line.status for line in lines if not line.digest]
    assert statuses == [
        "pulling manifest",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    progress = Progress()
    for second, line in enumerate(lines):
        progress.observe(line, float(second))
        if line.digest:
            assert line.status == f"pulling {line.digest[7:19]}"
    model = next(model for model in await client.tags() if model.name == "qwen3:4b")
    assert progress.completed == progress.total == model.size
    again = await pulled(client, "qwen3:4b")
    assert again[-1].status == "success"
    assert {line.completed == line.total for line in again} == {True}


async def test_pull_from_a_named_registry(client: OllamaClient, registry: RegistryAt) -> None:
    host = registry.url.removeprefix("http://")
    name = ModelName.parse("qwen3:1.7b").with_registry(host)
    lines = [line async for line in client.pull(name.qualified, insecure=True)]
    assert lines[-1].status == "success"
    assert f"{host}/library/qwen3:1.7b" in await installed(client)
    await client.copy(name.qualified, "qwen3:1.7b")
    async with RegistryClient(insecure=True) as plain:
        manifest = await plain.manifest(name)
    assert (await installed(client))["qwen3:1.7b"] == manifest.digest


async def test_pull_resumes_after_its_client_left(
    client: OllamaClient, registry: RegistryAt
) -> None:
    async with RegistryClient(base=registry.url) as plain:
        layer = (await plain.manifest("qwen3:0.6b")).layers[0]
    kept = 200_000
    registry.fault(kind="stall", digest=layer.digest, after=kept)
    before = registry.stats()["served_bytes"]
    async with asyncio.timeout(20):
        async for line in client.pull("qwen3:0.6b"):
            if line.digest == layer.digest and line.completed >= kept:
                break
    assert "qwen3:0.6b" not in await installed(client)

    seen: list[PullProgress] = []

    async def succeeded() -> bool:
        # The server may still be letting go of the first download.
        try:
            seen[:] = await pulled(client, "qwen3:0.6b")
        except PullFailed:
            return False
        return True

    await until(succeeded, "the second pull succeeds", 20)
    first = next(line for line in seen if line.digest == layer.digest and line.completed)
    assert first.completed >= kept
    assert registry.stats()["served_bytes"] - before < layer.size + 10_000
    assert "qwen3:0.6b" in await installed(client)


async def test_pull_finds_wrong_bytes(client: OllamaClient, registry: RegistryAt) -> None:
    async with RegistryClient(base=registry.url) as plain:
        layer = (await plain.manifest("llama3.2:3b")).layers[0]
    registry.fault(kind="wrong_bytes", digest=layer.digest, after=1000)
    with pytest.raises(PullFailed, match="digest mismatch, file must be downloaded again"):
        await pulled(client, "llama3.2:3b")
    assert "llama3.2:3b" not in await installed(client)
    assert (await pulled(client, "llama3.2:3b"))[-1].status == "success"


async def test_load_keeps_and_unload_takes_away(client: OllamaClient) -> None:
    await client.load(CHAT, keep_alive=-1)
    resident = next(model for model in await client.ps() if model.name == CHAT)
    assert resident.digest == (await installed(client))[CHAT]
    assert resident.size > 0
    assert resident.size_vram == 0
    assert resident.context_length == 4096
    assert resident.expires_at.year > 2200
    await client.load(CHAT, keep_alive="10m")
    resident = next(model for model in await client.ps() if model.name == CHAT)
    left = resident.expires_at - datetime.now(UTC)
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)
    await client.unload(CHAT)

    async def gone() -> bool:
        return CHAT not in {model.name for model in await client.ps()}

    await until(gone, "the model is unloaded")


async def test_load_and_unload_answer_with_their_reason(http: httpx2.AsyncClient) -> None:
    bodies: dict[str, dict[str, Any]] = {"/api/generate": {}, "/api/chat": {"messages": []}}
    for path, body in bodies.items():
        for keep_alive, reason in ((-1, "load"), (0, "unload")):
            response = await http.post(path, json={"model": CHAT, "keep_alive": keep_alive, **body})
            answer = response.json()
            assert (answer["done"], answer["done_reason"]) == (True, reason)
            assert "total_duration" not in answer


async def test_load_of_an_embedding_model(client: OllamaClient) -> None:
    await client.load(EMBED)
    assert EMBED in {model.name for model in await client.ps()}
    await client.unload(EMBED)


async def test_a_model_leaves_memory_when_its_time_is_up(client: OllamaClient) -> None:
    await client.load(CHAT, keep_alive=0.2)

    async def gone() -> bool:
        return CHAT not in {model.name for model in await client.ps()}

    await until(gone, "the model is unloaded")


@pytest.mark.parametrize("model", [CHAT, EMBED])
async def test_an_installed_model_tells_the_shape_that_its_file_does(
    client: OllamaClient, registry: RegistryAt, model: str
) -> None:
    async with RegistryClient(base=registry.url) as source:
        (layer,) = (await source.manifest(model)).of_type(MODEL_LAYER)
        header = await source.header(model, layer)
    shown = await client.show(model)
    found = architecture_of(shown.model_info, shown.vocabulary)
    assert found is not None
    assert found == architecture_of(header)
    # only one of them says how many tokens it knows, other than by their list, which is left out
    assert (architecture_of(shown.model_info) is None) == (model == EMBED)
    assert shown.model_info["tokenizer.ggml.tokens"] is None
