import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ollama_fleet.kube import Kube, KubeError, Unavailable, WatchEvent
from ollama_fleet.kube.kinds import CONFIG_MAP, HTTP_ROUTE, OLLAMA_NODE, Kind
from ollama_fleet.kube.transport import Params, Transport
from tests.component.kube.conftest import config_map, eventually, ollama_node
from tests.component.kube.proxy import Proxy

LABEL = {"app": "x"}


class Watcher:
    """What a watch has told so far."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.events: list[WatchEvent] = []
        self.errors: list[KubeError] = []

    @property
    def seen(self) -> list[str]:
        return [
            event.type + (" " + event.object["metadata"]["name"] if event.object else "")
            for event in self.events
        ]

    @asynccontextmanager
    async def watching(
        self, kubeconfig: Path, inactivity: float = 90.0, kind: Kind = CONFIG_MAP
    ) -> AsyncIterator[None]:
        async with await Kube.connect(str(kubeconfig)) as kube:
            task = asyncio.create_task(self._collect(kube, kind, inactivity))
            yield
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _collect(self, kube: Kube, kind: Kind, inactivity: float) -> None:
        watch = kube.watch(
            kind, self.namespace, "app=x", on_error=self.errors.append, inactivity=inactivity
        )
        async for event in watch:
            self.events.append(event)


@pytest.fixture
def watcher(namespace: str) -> Watcher:
    return Watcher(namespace)


async def test_list_then_changes(
    kube: Kube, watcher: Watcher, namespace: str, proxied: Path
) -> None:
    await kube.create(config_map("a", namespace, LABEL))
    await kube.create(config_map("other", namespace))
    async with watcher.watching(proxied):
        await eventually(lambda: "SYNCED" in watcher.seen)
        await kube.create(config_map("b", namespace, LABEL))
        await kube.patch(CONFIG_MAP, "a", namespace, {"data": {"k": "v"}})
        await kube.delete(CONFIG_MAP, "b", namespace)
        await eventually(lambda: len(watcher.seen) >= 5)
    assert watcher.seen == ["ADDED a", "SYNCED", "ADDED b", "MODIFIED a", "DELETED b"]
    assert watcher.events[0].object["kind"] == "ConfigMap"
    assert watcher.events[3].object["data"] == {"k": "v"}
    assert watcher.errors == []


async def test_an_empty_list_is_synced_too(watcher: Watcher, proxied: Path) -> None:
    async with watcher.watching(proxied):
        await eventually(lambda: watcher.seen == ["SYNCED"])


async def test_after_a_cut_it_takes_up_where_it_was(
    kube: Kube, watcher: Watcher, namespace: str, proxied: Path, proxy: Proxy
) -> None:
    await kube.create(config_map("a", namespace, LABEL))
    await kube.create(config_map("b", namespace, LABEL))
    async with watcher.watching(proxied):
        await eventually(lambda: "SYNCED" in watcher.seen)
        await proxy.cut()
        await kube.delete(CONFIG_MAP, "a", namespace)
        await kube.create(config_map("c", namespace, LABEL))
        await eventually(lambda: watcher.errors)
        await proxy.resume()
        await eventually(lambda: "ADDED c" in watcher.seen)
    assert watcher.seen == ["ADDED a", "ADDED b", "SYNCED", "DELETED a", "ADDED c"]
    assert all(isinstance(error, Unavailable) for error in watcher.errors)


async def test_after_410_it_lists_again_and_tells_the_difference(
    kube: Kube,
    watcher: Watcher,
    namespace: str,
    proxied: Path,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("same", "gone", "changed", "replaced"):
        await kube.create(ollama_node(name, namespace, LABEL))
    async with watcher.watching(proxied, kind=OLLAMA_NODE):
        await eventually(lambda: "SYNCED" in watcher.seen)
        before = len(watcher.seen)
        await proxy.cut()
        await kube.delete(OLLAMA_NODE, "gone", namespace)
        await kube.patch(OLLAMA_NODE, "changed", namespace, {"spec": {"weight": 7}})
        await kube.delete(OLLAMA_NODE, "replaced", namespace)
        await kube.create(ollama_node("replaced", namespace, LABEL))
        await kube.create(ollama_node("new", namespace, LABEL))
        asked = _ask_first_for_a_version_older_than_the_kind(monkeypatch)
        await proxy.resume()
        await eventually(lambda: len(watcher.seen) >= before + 5)
    told = watcher.seen[before:]
    assert sorted(told) == [
        "ADDED new",
        "ADDED replaced",
        "DELETED gone",
        "DELETED replaced",
        "MODIFIED changed",
    ]
    assert told.index("DELETED replaced") < told.index("ADDED replaced")
    gone = watcher.events[watcher.seen.index("DELETED gone")].object
    assert gone["metadata"]["labels"] == LABEL
    assert watcher.seen.count("SYNCED") == 1
    assert asked[0] == "1"
    assert int(asked[1]) > int(gone["metadata"]["resourceVersion"]), "no new list was made"


def _ask_first_for_a_version_older_than_the_kind(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The server answers 410 to that; the versions then asked for."""
    original = Transport.stream
    asked: list[str] = []

    def stream(
        self: Transport, path: str, params: Params, inactivity: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        version = str(params["resourceVersion"]) if asked else "1"
        asked.append(version)
        return original(self, path, {**params, "resourceVersion": version}, inactivity)

    monkeypatch.setattr(Transport, "stream", stream)
    return asked


async def test_a_half_open_connection_is_noticed(
    kube: Kube, watcher: Watcher, namespace: str, proxied: Path, proxy: Proxy
) -> None:
    async with watcher.watching(proxied, inactivity=0.5):
        await eventually(lambda: "SYNCED" in watcher.seen)
        await proxy.freeze()
        await kube.create(config_map("a", namespace, LABEL))
        await proxy.resume()
        await eventually(lambda: "ADDED a" in watcher.seen)


async def test_it_waits_for_an_api_server_that_is_not_there_yet(
    watcher: Watcher, proxied: Path, proxy: Proxy
) -> None:
    await proxy.cut()
    async with watcher.watching(proxied):
        await eventually(lambda: watcher.errors)
        assert watcher.seen == []
        await proxy.resume()
        await eventually(lambda: watcher.seen == ["SYNCED"])


async def test_a_kind_that_is_not_there_is_reported_and_tried_again(
    watcher: Watcher, proxied: Path
) -> None:
    async with watcher.watching(proxied, kind=HTTP_ROUTE):
        await eventually(lambda: len(watcher.errors) >= 2)
    assert "is its CRD installed" in str(watcher.errors[0])
    assert watcher.seen == []
