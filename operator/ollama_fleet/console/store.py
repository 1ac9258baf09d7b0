"""What Kubernetes shows of the fleet, kept by watches."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from ollama_fleet.console.agents import Server, servers_of
from ollama_fleet.kube import Kind, Kube, Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER

log = logging.getLogger(__name__)

KINDS = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)

Change = Callable[[Kind, Object | None, Object | None], None]
"""Hears of a kind, and of an object before and after."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An object, and which change it was: a later one has a larger number."""

    kind: Kind
    object: Object
    number: int


class Store:
    """Every object of our kinds, in some namespaces or (without any) in all."""

    def __init__(self, namespaces: Iterable[str] = ()) -> None:
        self._namespaces: list[str | None] = list(namespaces) or [None]
        self._kept: dict[tuple[str, str, str], Kept] = {}
        self._servers: dict[tuple[str, str, str], tuple[int, list[Server]]] = {}
        """Of each OllamaNode, as it was after which change."""
        self._number = 0
        self._unsynced = {(kind.kind, one) for kind in KINDS for one in self._namespaces}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners: list[Change] = []

    @property
    def synced(self) -> bool:
        """Whether everything has been seen once."""
        return not self._unsynced

    def on_change(self, listener: Change) -> None:
        """Have it hear of every change from now on."""
        self._listeners.append(listener)

    def start(self, kube: Kube) -> None:
        """Follow the API server until `stop`."""
        for kind in KINDS:
            for namespace in self._namespaces:
                self._tasks.append(asyncio.create_task(self._follow(kube, kind, namespace)))

    async def stop(self) -> None:
        """Follow it no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def all(self, kind: Kind, namespaces: frozenset[str] | None = None) -> list[Object]:
        """The objects of a kind in these namespaces (None: in all), by namespace and name."""
        found = [
            (key, kept.object)
            for key, kept in self._kept.items()
            if key[0] == kind.kind and (namespaces is None or key[1] in namespaces)
        ]
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def servers(self) -> list[Server]:
        """The servers of all OllamaNodes, by namespace, OllamaNode and name."""
        known, self._servers = self._servers, {}
        for key, kept in sorted(self._kept.items()):
            if kept.kind == OLLAMA_NODE:
                number, servers = known.get(key, (-1, []))
                if number != kept.number:
                    servers = servers_of(kept.object)
                self._servers[key] = kept.number, servers
        return [one for _, servers in self._servers.values() for one in servers]

    def entries(self) -> dict[tuple[str, str, str], Kept]:
        """Everything, by kind, namespace and name."""
        return self._kept

    def namespaces(self) -> frozenset[str]:
        """Those that any object is in."""
        return frozenset(key[1] for key in self._kept)

    def put(self, kind: Kind, obj: Object) -> None:
        """Take over an object, unless a later state of it is known: whoever has written something
        is to read it at once."""
        meta = obj["metadata"]
        key = (kind.kind, meta.get("namespace", ""), meta["name"])
        before = self._kept.get(key)
        if before is not None and _version(obj) <= _version(before.object):
            return
        self._number += 1
        self._kept[key] = Kept(kind, obj, self._number)
        self._tell(kind, before.object if before else None, obj)

    def drop(self, kind: Kind, obj: Object) -> None:
        """Forget an object, unless another one has its name by now."""
        meta = obj["metadata"]
        key = (kind.kind, meta.get("namespace", ""), meta["name"])
        before = self._kept.get(key)
        if before is None or before.object["metadata"].get("uid") != meta.get("uid"):
            return
        self._number += 1
        del self._kept[key]
        self._tell(kind, before.object, None)

    async def wait(self, seconds: float) -> None:
        """Until the next change, and at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def wake(self) -> None:
        """Let those go on who wait for a change: there is one elsewhere."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _tell(self, kind: Kind, before: Object | None, after: Object | None) -> None:
        self.wake()
        if self.synced:
            for listener in self._listeners:
                listener(kind, before, after)

    async def _follow(self, kube: Kube, kind: Kind, namespace: str | None) -> None:
        async with aclosing(kube.watch(kind, namespace)) as events:
            async for event in events:
                if event.type == "SYNCED":
                    self._unsynced.discard((kind.kind, namespace))
                elif event.type == "DELETED":
                    self.drop(kind, event.object)
                else:
                    self.put(kind, event.object)


def _version(obj: Object) -> int:
    """Versions of one kind are numbers that grow, as the API server promises since 1.35 and has
    always kept."""
    text = str(obj["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdigit() else 0
