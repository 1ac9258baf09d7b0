"""List and watch, for ever: the present state of a kind, then every change to it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from random import SystemRandom
from typing import TYPE_CHECKING, Literal

from ollama_fleet.kube.errors import Gone, KubeError, error_for
from ollama_fleet.kube.kinds import Kind, Object
from ollama_fleet.kube.listing import list_all

if TYPE_CHECKING:
    from ollama_fleet.kube.transport import Transport

log = logging.getLogger(__name__)

INACTIVITY = 90.0
"""Seconds of silence after which a connection is dead; bookmarks come every minute."""

_FIRST_DELAY, _LAST_DELAY = 0.5, 30.0
_random = SystemRandom()

EventType = Literal["SYNCED", "ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change. SYNCED comes once, without an object, after the first list.

    A DELETED found by listing again carries only the last known apiVersion, kind and metadata.
    """

    type: EventType
    object: Object = field(default_factory=dict)


class Watch:
    """One endless watch; iterate over `events()`."""

    def __init__(
        self,
        transport: "Transport",
        kind: Kind,
        namespace: str | None,
        label_selector: str | None,
        on_error: Callable[[KubeError], None] | None = None,
        inactivity: float = INACTIVITY,
        field_selector: str | None = None,
    ) -> None:
        self._transport = transport
        self._kind = kind
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._on_error = on_error
        self._inactivity = inactivity
        self._known: dict[tuple[str, str], Object] = {}
        self._version = ""
        self._synced = False
        self._failures = 0

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """Every change, through disconnects and 410s; never ends by itself."""
        while True:
            started = asyncio.get_running_loop().time()
            try:
                if not self._version:
                    found = await list_all(
                        self._transport.request,
                        self._kind,
                        self._namespace,
                        self._label_selector,
                        self._field_selector,
                    )
                    for event in self._compare(found.items):
                        yield event
                    self._version = found.resource_version
                    if not self._synced:
                        self._synced = True
                        yield WatchEvent("SYNCED")
                async with aclosing(self._stream()) as stream:
                    async for event in stream:
                        self._failures = 0
                        yield event
            except Gone:
                self._version = ""
            except KubeError as error:
                # A broken stream is taken up where it broke; any other refusal needs a new list.
                self._version = self._version if error.transient else ""
                self._report(error)
                await self._pause(error.retry_after or 0.0)
            else:
                # The server ends a watch after minutes; one that ends at once is in trouble.
                if asyncio.get_running_loop().time() - started < 1.0:
                    await self._pause()

    async def _stream(self) -> AsyncGenerator[WatchEvent, None]:
        params: dict[str, str | int | bool | None] = {
            "watch": True,
            "allowWatchBookmarks": True,
            "resourceVersion": self._version,
            "timeoutSeconds": _random.randint(240, 300),
            "labelSelector": self._label_selector,
            "fieldSelector": self._field_selector,
        }
        async with aclosing(
            self._transport.stream(self._kind.path(self._namespace), params, self._inactivity)
        ) as lines:
            async for line in lines:
                obj: Object = line.get("object") or {}
                match line.get("type"):
                    case "ERROR":
                        raise error_for(int(obj.get("code") or 500), obj)
                    case "ADDED" | "MODIFIED" | "DELETED" as change:
                        self._version = obj["metadata"]["resourceVersion"]
                        yield self._remember(change, obj)
                    case "BOOKMARK":
                        self._failures = 0
                        self._version = obj["metadata"]["resourceVersion"]

    def _remember(self, change: Literal["ADDED", "MODIFIED", "DELETED"], obj: Object) -> WatchEvent:
        if change == "DELETED":
            self._known.pop(_name(obj), None)
        else:
            self._known[_name(obj)] = _gist(obj)
        return WatchEvent(change, obj)

    def _compare(self, objects: list[Object]) -> list[WatchEvent]:
        """What changed between what is known and a fresh list."""
        fresh = {_name(obj): obj for obj in objects}
        events = [
            WatchEvent("DELETED", self._known[name])
            for name in self._known
            if name not in fresh or _uid(fresh[name]) != _uid(self._known[name])
        ]
        for gone in events:
            del self._known[_name(gone.object)]
        for name, obj in fresh.items():
            known = self._known.get(name)
            if known is None:
                events.append(self._remember("ADDED", obj))
            elif known["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                events.append(self._remember("MODIFIED", obj))
        return events

    def _report(self, error: KubeError) -> None:
        if self._on_error is not None:
            self._on_error(error)
        if self._failures == 0:
            log.warning("watch of %s: %s; retrying", self._kind.plural, error)

    async def _pause(self, at_least: float = 0.0) -> None:
        delay = min(_LAST_DELAY, _FIRST_DELAY * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        await asyncio.sleep(max(at_least, delay * (0.5 + _random.random())))


def _name(obj: Object) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def _gist(obj: Object) -> Object:
    """What a DELETED needs when the object itself is gone: little, since every object has one."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "metadata": meta}
