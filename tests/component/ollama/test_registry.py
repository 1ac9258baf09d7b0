"""The local registry by itself: the protocol, ranges, the proxy, the two forms."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from dataclasses import replace

import httpx2
import pytest

from dev.ollama import library, model
from dev.ollama.library import ENDLESS
from dev.ollama.registry import Fault, Registry
from ollama_fleet.ollama.errors import (
    ModelNotFound,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unreachable,
)
from ollama_fleet.ollama.gguf import GgufError
from ollama_fleet.ollama.registry import MODEL_LAYER, RegistryClient
from ollama_fleet.plan.architecture import architecture_of
from tests.component.ollama.conftest import CHAT, EMBED

SMALL = "llama3.2:1b"


async def test_every_blob_has_its_digest_and_size() -> None:
    async with Registry() as registry, RegistryClient(base=registry.url) as client:
        manifest = await client.manifest(CHAT)
        async with httpx2.AsyncClient(verify=False, trust_env=False) as http:
            for layer in (*manifest.layers, manifest.config):
                url = f"{registry.url}/v2/library/llama3.1/blobs/{layer.digest}"
                moved = await http.get(url)
                assert moved.status_code == 307
                content = (await http.get(moved.headers["location"])).content
                assert len(content) == layer.size
                assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer.digest
                headers = {"Range": "bytes=10-19"}
                part = await http.get(moved.headers["location"], headers=headers)
                assert part.status_code == 206
                assert part.headers["content-range"] == f"bytes 10-19/{layer.size}"
                assert part.content == content[10:20]
        assert registry.served_bytes == sum(
            layer.size + 10 for layer in (*manifest.layers, manifest.config)
        )


async def test_an_unknown_model() -> None:
    async with Registry() as registry:
        async with RegistryClient(base=registry.url) as client:
            with pytest.raises(ModelNotFound):
                await client.manifest("llama3.1:9b")
            with pytest.raises(ModelNotFound):
                await client.manifest("team/llama3.1:8b")
        async with httpx2.AsyncClient(verify=False, trust_env=False) as http:
            answer = await http.get(f"{registry.url}/v2/library/nope/manifests/latest")
            assert answer.status_code == 404
            assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"
            assert (await http.get(f"{registry.url}/v2/_catalog")).status_code == 404


async def test_no_registry_at_all() -> None:
    async with RegistryClient(base="http://127.0.0.1:1") as client:
        with pytest.raises(Unreachable, match="cannot be reached"):
            await client.manifest(CHAT)


async def test_who_is_not_known_is_told_so() -> None:
    async with Registry() as registry, RegistryClient(base=registry.url) as client:
        registry.faults.append(Fault("unauthorized"))
        with pytest.raises(Unauthorized, match=f"does not give {CHAT} without credentials"):
            await client.manifest(CHAT)
        assert await client.manifest(CHAT)


@pytest.mark.parametrize(("after", "wait"), [(7, 7.0), (0, None)])
async def test_too_many_requests(after: int, wait: float | None) -> None:
    async with Registry() as registry, RegistryClient(base=registry.url) as client:
        registry.faults.append(Fault("too_many_requests", after=after))
        with pytest.raises(RateLimited, match="too many requests") as refused:
            await client.manifest(CHAT)
        assert refused.value.retry_after == wait


async def test_a_name_may_come_to_stand_for_another_model() -> None:
    async with Registry() as registry, RegistryClient(base=registry.url) as client:
        before, other = await client.manifest(CHAT), await client.manifest(SMALL)
        registry.newer[CHAT] = SMALL
        assert await client.manifest(CHAT) == other != before


async def test_the_proxy_leads_to_the_default_registry_and_nowhere_else() -> None:
    async with Registry() as registry:
        env = registry.environment()
        trust = ssl.create_default_context(cafile=env["SSL_CERT_FILE"])
        async with httpx2.AsyncClient(
            proxy=env["HTTPS_PROXY"], verify=trust, trust_env=False
        ) as http:
            path = "/v2/library/llama3.1/manifests/8b"
            answer = await http.head(f"https://registry.ollama.ai{path}")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == library.MANIFEST_TYPE
            with pytest.raises(httpx2.ProxyError, match="403"):
                await http.get("https://example.com/")


async def test_the_rate_is_kept_over_all_downloads() -> None:
    async with Registry() as registry, RegistryClient(base=registry.url) as client:
        layer = (await client.manifest(SMALL)).layers[0]
    async with Registry(rate=5 * layer.size) as registry:
        async with RegistryClient(base=registry.url) as client:
            await client.manifest(SMALL)
        url = f"{registry.url}/bytes/{layer.digest}"
        async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=30) as http:
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(http.get(url) for _ in range(3)))
            elapsed = asyncio.get_running_loop().time() - began
    assert elapsed >= 0.55


def test_the_stand_ins_are_the_same_bytes_each_time() -> None:
    for name in (SMALL, EMBED):
        assert model.real.__wrapped__(name) == model.real.__wrapped__(name)


@pytest.mark.parametrize(
    "package",
    [*map(library.sized, sorted(library.LIBRARY)), *map(model.real, (SMALL, EMBED, ENDLESS))],
)
def test_packages_are_whole(package: library.Package | None) -> None:
    assert package is not None
    manifest = json.loads(package.manifest)
    layers = [*manifest["layers"], manifest["config"]]
    assert {layer["digest"] for layer in layers} == set(package.blobs)
    assert all(package.blobs[layer["digest"]].size == layer["size"] for layer in layers)


@pytest.mark.parametrize("form", ["real", "sized"])
async def test_a_header_is_read_from_a_few_kilobytes(form: str) -> None:
    async with Registry(form=form) as registry, RegistryClient(base=registry.url) as client:
        (layer,) = (await client.manifest("gpt-oss:20b")).of_type(MODEL_LAYER)
        values = await client.header("gpt-oss:20b", layer)
        found = architecture_of(values)
        assert found is not None
        assert found.name == {"real": "llama", "sized": "gptoss"}[form]
        assert registry.served_bytes <= 1 << 16


async def test_no_more_of_a_blob_is_taken_than_was_asked_for() -> None:
    async with Registry() as registry, RegistryClient(base=registry.url) as client:
        (layer,) = (await client.manifest(CHAT)).of_type(MODEL_LAYER)
        assert await client.blob(CHAT, layer.digest, 0, 4) == b"GGUF"
        assert len(await client.blob(CHAT, layer.digest, 1000, 70_000)) == 70_000
        assert len(await client.blob(CHAT, layer.digest, layer.size - 7, 100)) == 7


async def test_a_layer_that_is_no_gguf_file_is_refused() -> None:
    async with Registry() as registry, RegistryClient(base=registry.url) as client:
        manifest = await client.manifest(CHAT)
        with pytest.raises(GgufError):
            await client.header(CHAT, manifest.config)
        short = replace(manifest.of_type(MODEL_LAYER)[0], size=30)
        with pytest.raises(GgufError, match="ends"):
            await client.header(CHAT, short)


async def _answering(head: bytes, body: bytes) -> tuple[asyncio.Server, str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("head", "begin", "found"),
    [
        (b"HTTP/1.1 200 OK\r\n", 0, b"0123"),
        (b"HTTP/1.1 200 OK\r\n", 4, None),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/90\r\n", 4, b"0123"),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/90\r\n", 4, None),
        (b"HTTP/1.1 416 Range Not Satisfiable\r\n", 4, None),
    ],
)
async def test_who_keeps_no_ranges(head: bytes, begin: int, found: bytes | None) -> None:
    server, url = await _answering(head, b"0123456789")
    async with server, RegistryClient(base=url) as client:
        if found is None:
            with pytest.raises(RegistryError, match="answered"):
                await client.blob(CHAT, "sha256:" + "a" * 64, begin, 4)
        else:
            assert await client.blob(CHAT, "sha256:" + "a" * 64, begin, 4) == found
