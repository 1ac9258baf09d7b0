"""One real API server a session, one namespace a test."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from dev.cluster import Cluster
from ollama_fleet.kube import Kind, Kube, NotFound, Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER
from tests.component.kube.proxy import Proxy

REPOSITORY = Path(__file__).resolve().parents[3]
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane without machines, with our custom resources."""
    started = Cluster.start(tmp_path_factory.mktemp("cluster"), machines=(), say=print)
    asyncio.run(_install_crds(str(started.kubeconfig)))
    yield started
    started.stop()


@pytest.fixture
async def kube(cluster: Cluster) -> AsyncIterator[Kube]:
    async with await Kube.connect(str(cluster.kubeconfig)) as kube:
        yield kube


@pytest.fixture
async def namespace(kube: Kube) -> str:
    name = f"test-{next(_NUMBERS)}"
    await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
async def weak(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> Path:
    """The kubeconfig of a service account that may do nothing."""
    meta = {"name": "weak", "namespace": namespace}
    await kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    return cluster.token_kubeconfig(namespace, "weak", tmp_path / "weak")


@pytest.fixture
async def proxy(cluster: Cluster) -> AsyncIterator[Proxy]:
    address = urlsplit(cluster.url)
    async with Proxy(address.hostname or "", address.port or 443) as proxy:
        yield proxy


@pytest.fixture
def proxied(cluster: Cluster, proxy: Proxy, tmp_path: Path) -> Path:
    """A kubeconfig that reaches the API server through `proxy`."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = tmp_path / "proxied"
    path.write_text(yaml.safe_dump(config))
    return path


def config_map(name: str, namespace: str, labels: Any = None, **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "data": data,
    }


def ollama_node(name: str, namespace: str, labels: Any = None, **spec: Any) -> Object:
    return {
        "apiVersion": "ollamafleet.dev/v1alpha1",
        "kind": "OllamaNode",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": spec or {"replicas": 1},
    }


async def eventually(
    condition: Callable[[], Awaitable[Any]] | Callable[[], Any], within: float = 60.0
) -> Any:
    """What the condition returns once that is true; AssertionError if it never is."""
    try:
        async with asyncio.timeout(within):
            while True:
                value = condition()
                if isinstance(value, Awaitable):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {condition}") from None


async def _install_crds(kubeconfig: str) -> None:
    async with await Kube.connect(kubeconfig) as kube:
        for path in sorted((REPOSITORY / "crds").glob("*.yaml")):
            await kube.apply(yaml.safe_load(path.read_text()))
        for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER):
            await eventually(partial(_is_served, kube, kind))


async def _is_served(kube: Kube, kind: Kind) -> bool:
    try:
        await kube.list(kind)
    except NotFound:
        return False
    return True
