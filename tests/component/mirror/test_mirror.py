"""The mirror before a registry of stand-ins that can misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from dev.ollama.registry import Fault, Registry
from ollama_fleet.api.mirror import Mirror
from ollama_fleet.mirror.main import main
from ollama_fleet.ollama.errors import ModelNotFound, Unauthorized
from ollama_fleet.ollama.registry import MODEL_LAYER, RegistryClient
from tests.component.mirror.mirrors import MANIFEST, MODEL, blob, client, led_to, mirror, until

PULLS = 20


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry() as running:
        yield running


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def test_many_pulls_are_one_download(registry: Registry, tmp_path: Path) -> None:
    with mirror(tmp_path, env=led_to(registry)) as running:
        layers = await running.manifest()

        async def pull() -> list[bytes]:
            return [(await running.get(blob(layer.digest))).content for layer in layers]

        for contents in await asyncio.gather(*(pull() for _ in range(PULLS))):
            assert [digest_of(content) for content in contents] == [one.digest for one in layers]
        size = sum(layer.size for layer in layers)
        assert registry.served_bytes == size
        assert registry.requests["manifest"] == 1
        assert await running.metric("upstream_bytes_total") == size
        assert await running.metric("served_bytes_total") == PULLS * size
        assert await running.metric("blob_requests_total") == PULLS * len(layers)
        assert running.blobs == {layer.digest for layer in layers}


async def test_ranges_come_from_a_download_under_way(registry: Registry, tmp_path: Path) -> None:
    with mirror(tmp_path, env=led_to(registry)) as running:
        big = (await running.manifest())[0]
        there = 1_000_000
        registry.faults.append(Fault("stall", big.digest, there))
        async with client(running.url) as http, http.stream("GET", blob(big.digest)) as whole:
            assert whole.headers["location"] == blob(big.digest)
            early = await running.get(blob(big.digest), Range="bytes=1000-9999")
            assert (early.status_code, len(early.content)) == (206, 9000)
            assert early.headers["content-range"] == f"bytes 1000-9999/{big.size}"
            late = asyncio.create_task(running.get(blob(big.digest), Range=f"bytes={there}-"))
            done, _ = await asyncio.wait([late], timeout=0.3)
            assert not done
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)


async def test_a_look_at_the_head_of_a_file_does_not_fetch_it(
    registry: Registry, tmp_path: Path
) -> None:
    with mirror(tmp_path, env=led_to(registry)) as running:
        big = (await running.manifest())[0]
        head = await running.get(blob(big.digest), Range="bytes=100-65635")
        assert (head.status_code, len(head.content)) == (206, 65536)
        assert head.headers["content-range"] == f"bytes 100-65635/{big.size}"
        assert registry.served_bytes == 65536
        assert not list((tmp_path / "partial").iterdir())
        tail = await running.get(blob(big.digest), Range=f"bytes={big.size - 10}-")
        assert registry.served_bytes == 65536 + big.size
        whole = await running.get(blob(big.digest))
        assert whole.content[100:65636] == head.content
        assert whole.content[-10:] == tail.content


@pytest.mark.parametrize(
    ("header", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=3-999999999999", 3, None),
    ],
)
async def test_ranges_of_what_is_here(
    registry: Registry, tmp_path: Path, header: str, begin: int, end: int | None
) -> None:
    with mirror(tmp_path, env=led_to(registry)) as running:
        small = (await running.manifest())[-1]
        whole = (await running.get(blob(small.digest))).content
        part = await running.get(blob(small.digest), Range=header)
        assert (part.status_code, part.content) == (206, whole[begin:end])
        same = await running.get(blob(small.digest), Range=header, If_Range=f'"{small.digest}"')
        assert same.status_code == 206
        other = await running.get(blob(small.digest), Range=header, If_Range='"another"')
        assert (other.status_code, other.content) == (200, whole)
        beyond = await running.get(blob(small.digest), Range=f"bytes={small.size}-")
        assert beyond.status_code == 416
        assert beyond.headers["content-range"] == f"bytes */{small.size}"


async def test_heads(registry: Registry, tmp_path: Path) -> None:
    with mirror(tmp_path, env=led_to(registry)) as running:
        layers = await running.manifest()
        manifest = await running.get(MANIFEST, "HEAD")
        assert int(manifest.headers["content-length"]) > 100
        assert manifest.headers["docker-content-digest"].startswith("sha256:")
        head = await running.get(blob(layers[0].digest), "HEAD")
        assert int(head.headers["content-length"]) == layers[0].size
        assert head.headers["docker-content-digest"] == layers[0].digest
        assert registry.served_bytes == 0
        assert (await running.get("/v2/")).json() == {}
        assert (await running.get("/healthz")).text == "ok\n"
        assert (await running.get("/readyz")).text == "ok\n"


async def test_a_killed_mirror_goes_on_where_it_was(registry: Registry, tmp_path: Path) -> None:
    with mirror(tmp_path, env=led_to(registry)) as first:
        big, *others = await first.manifest()
        kept = await first.get(blob(others[0].digest))
        there = 3_000_000
        registry.faults.append(Fault("stall", big.digest, there))
        async with client(first.url) as http, http.stream("GET", blob(big.digest)):
            partial = tmp_path / "partial" / big.digest.replace(":", "-")
            await until(lambda: partial.stat().st_size > there - 300_000, "most of it is here")
            first.kill()
    before = registry.served_bytes
    with mirror(tmp_path, env=led_to(registry)) as second:
        assert (await second.get(blob(others[0].digest))).content == kept.content
        whole = await second.get(blob(big.digest))
        assert digest_of(whole.content) == big.digest
        assert registry.served_bytes - before < big.size - there + 300_000


async def test_what_is_here_outlives_the_registry(tmp_path: Path) -> None:
    async with Registry() as registry:
        env = led_to(registry)
        env["SSL_CERT_FILE"] = shutil.copy(env["SSL_CERT_FILE"], str(tmp_path))
        with mirror(tmp_path, "--manifest-age=0s", env=env) as running:
            layers = await running.manifest()
            for layer in layers:
                await running.get(blob(layer.digest))
            assert (await running.get(MANIFEST)).status_code == 200
            assert registry.requests["manifest"] == 2
    with mirror(tmp_path, "--manifest-age=0s", env=env) as running:
        assert await running.manifest() == layers
        assert await running.manifest() == layers
        assert running.log.count("serving what it said") == 1
        again = await running.get(blob(layers[0].digest))
        assert digest_of(again.content) == layers[0].digest
        assert await running.metric('manifest_requests_total{result="stale"}') == 2
        missing = await running.get("/v2/library/qwen3/manifests/4b")
        assert missing.status_code == 502
        (error,) = missing.json()["errors"]
        assert error["code"] == "UNAVAILABLE"
        assert "registry.ollama.ai cannot be reached" in error["message"]


async def test_wrong_bytes_reach_nobody_whole(registry: Registry, tmp_path: Path) -> None:
    with mirror(tmp_path, env=led_to(registry)) as running:
        big = (await running.manifest())[0]
        registry.faults.append(Fault("wrong_bytes", big.digest, big.size - 10))
        results = await asyncio.gather(
            running.get(blob(big.digest)),
            running.get(blob(big.digest), Range=f"bytes={big.size - 5}-"),
            return_exceptions=True,
        )
        assert [type(one) for one in results] == [httpx2.RemoteProtocolError] * 2
        assert big.digest not in running.blobs
        assert not list((tmp_path / "partial").iterdir())
        again = await running.get(blob(big.digest))
        assert digest_of(again.content) == big.digest


@pytest.mark.parametrize("kind", ["reset", "error", "busy"])
async def test_clients_do_not_notice_a_registry_that_stumbles(
    registry: Registry, tmp_path: Path, kind: str
) -> None:
    with mirror(tmp_path, env=led_to(registry)) as running:
        big = (await running.manifest())[0]
        registry.faults.append(Fault(kind, big.digest, 2_000_000))
        whole = await running.get(blob(big.digest))
        assert digest_of(whole.content) == big.digest
        assert registry.requests["bytes"] == 2
        assert registry.served_bytes < big.size + 300_000


async def test_the_oldest_goes_and_what_is_read_stays(registry: Registry, tmp_path: Path) -> None:
    first, second = ("library/llama3.1", "8b"), ("library/qwen3", "8b")
    with mirror(tmp_path, env=led_to(registry), size="50M") as running:
        found = {}
        for name, tag in (first, second):
            manifest = (await running.get(f"/v2/{name}/manifests/{tag}")).json()
            found[name] = max(manifest["layers"], key=lambda layer: layer["size"])
            assert 25e6 < found[name]["size"] < 50e6

        def url(name: str) -> str:
            return f"/v2/{name}/blobs/{found[name]['digest']}"

        async with client(running.url) as http, http.stream("GET", url(first[0])) as reading:
            await until(lambda: found[first[0]]["digest"] in running.blobs, "the first is here")
            refused = await running.get(url(second[0]))
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) == 30
            assert "in use" in refused.json()["errors"][0]["message"]
            assert digest_of(await reading.aread()) == found[first[0]]["digest"]
        whole = await running.get(url(second[0]))
        assert digest_of(whole.content) == found[second[0]]["digest"]
        assert running.blobs == {found[second[0]]["digest"]}
        assert await running.metric("evictions_total") == 1
        assert await running.metric("stored_bytes") == found[second[0]]["size"]


async def test_what_is_larger_than_the_store_is_refused_at_once(
    registry: Registry, tmp_path: Path
) -> None:
    with mirror(tmp_path, env=led_to(registry), size="5M") as running:
        answer = await running.get(MANIFEST)
        assert answer.status_code == 507
        assert "give it a larger size" in answer.json()["errors"][0]["message"]


async def test_what_does_not_exist(registry: Registry, tmp_path: Path) -> None:
    with mirror(tmp_path, env=led_to(registry)) as running:
        for path, status, code in (
            ("/v2/library/nothing/manifests/1", 404, "MANIFEST_UNKNOWN"),
            (blob(f"sha256:{'0' * 64}"), 404, "BLOB_UNKNOWN"),
            (blob("sha256:short"), 400, "NAME_INVALID"),
            ("/v2/library/-/manifests/1", 400, "NAME_INVALID"),
            ("/v2/models_lan___team/m/manifests/1", 403, "DENIED"),
            ("/v2/models.lan/team/m/manifests/1", 404, "UNSUPPORTED"),
        ):
            answer = await running.get(path)
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (status, code), path
        assert (await running.get(MANIFEST, "PUT")).status_code == 405


async def test_the_operator_asks_it_by_a_models_own_name(
    registry: Registry, tmp_path: Path
) -> None:
    with mirror(tmp_path, env=led_to(registry)) as running:
        known = Mirror(running.address, frozenset({"registry.ollama.ai"}))
        async with RegistryClient(mirror=known) as asking:
            manifest = await asking.manifest(MODEL)
            (file,) = manifest.of_type(MODEL_LAYER)
            header = await asking.header(MODEL, file)
            assert header["general.architecture"] == "llama"
            assert registry.served_bytes < file.size // 2
            with pytest.raises(ModelNotFound, match="has no nothing:1"):
                await asking.manifest("nothing:1")
        assert manifest.layers[0] in await running.manifest()
        plain = RegistryClient(registry.url, mirror=known)  # a registry it does not serve
        async with plain as asking:
            assert (await asking.manifest(MODEL)).digest == manifest.digest


async def test_a_private_registry(tmp_path: Path) -> None:
    async with Registry(user="fleet:secret") as registry:
        namespace = registry.host.replace(".", "_").replace(":", "__") + "___library"
        path = f"/v2/{namespace}/llama3.2/manifests/1b"
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {}}))
        arguments = (f"--registry=http://{registry.host}", f"--credentials={config}")
        with mirror(tmp_path / "mirror", *arguments) as running:
            refused = await running.get(path)
            assert refused.status_code == 403
            assert "wants credentials" in refused.json()["errors"][0]["message"]
            asking = RegistryClient(
                registry.url, mirror=Mirror(running.address, frozenset({registry.host}))
            )
            async with asking:
                with pytest.raises(Unauthorized, match="wants credentials for library"):
                    await asking.manifest(MODEL)
            known = {"username": "fleet", "password": "secret"}
            config.write_text(json.dumps({"auths": {registry.host: known}}))
            answer = await running.get(path)
            assert answer.status_code == 200
            digest = answer.json()["layers"][0]["digest"]
            whole = await running.get(f"/v2/{namespace}/llama3.2/blobs/{digest}")
            assert digest_of(whole.content) == digest
            assert registry.requests["token"] == 3
            assert "secret" not in running.log


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--size=big",), "'big' is not a quantity"),
        (("--registry=ftp://a",), "'ftp://a' is no registry"),
        (("--credentials=/nowhere",), "/nowhere: No such file or directory"),
    ],
)
def test_a_wrong_start_is_told_in_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--directory={tmp_path}", "--size=1G", *arguments])
    assert ended.value.code == 2
    assert said in capfd.readouterr().err
