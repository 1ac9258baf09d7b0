"""What the environment has to say of the way to the API server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dev.cluster import Cluster
from ollama_fleet.kube import Kube, Unavailable
from ollama_fleet.kube.kinds import NODE
from tests.component.kube.proxy import Proxy


@pytest.fixture
async def asked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """What was asked of a proxy that the environment names, which leads to the API server."""
    address = urlsplit(cluster.url)
    found: list[str] = []
    async with Proxy(address.hostname or "", address.port or 443) as tunnel:

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            found.extend([head[0], *(line for line in head if line.startswith("Proxy-Auth"))])
            onward, back = await asyncio.open_connection("127.0.0.1", tunnel.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_copy(reader, back), _copy(onward, writer))

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@{host}:{port}")
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            yield found


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_its_proxy_is_taken(cluster: Cluster, asked: list[str]) -> None:
    async with await Kube.connect(str(cluster.kubeconfig)) as kube:
        await kube.list(NODE)
    line, authorization = asked
    assert line == f"CONNECT {urlsplit(cluster.url).netloc} HTTP/1.1"
    assert authorization == "Proxy-Authorization: Basic bWU6c2VjcmV0"


async def test_but_for_what_needs_none(
    cluster: Cluster, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", urlsplit(cluster.url).hostname or "")
    async with await Kube.connect(str(cluster.kubeconfig)) as kube:
        await kube.list(NODE)
    assert asked == []


async def test_a_proxy_that_is_away_is_told(
    cluster: Cluster, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with await Kube.connect(str(cluster.kubeconfig)) as kube:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            await kube.list_page(NODE, limit=1)


async def test_a_netrc_is_left_alone(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {urlsplit(cluster.url).hostname} login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    token = cluster.token_kubeconfig("kube-system", "namespace-controller", tmp_path / "token")
    for kubeconfig in (cluster.kubeconfig, token):
        async with await Kube.connect(str(kubeconfig)) as kube:
            await kube.list_page(NODE, limit=1)
