"""The latest Kubernetes Events about resources of our kinds."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from ollama_fleet.console.wire import Event
from ollama_fleet.kube import Kube, Object
from ollama_fleet.kube.kinds import EVENT, MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER
from ollama_fleet.plan.times import parsed, rfc3339

KEPT = 1000
"""So many are kept, whatever the cluster still has."""
ABOUT = f"regarding.apiVersion={OLLAMA_NODE.api_version}"
SILENCE = 330.0
"""Seconds without a word after which a watch is dead: of Events the API server tells nothing while
there are none, and it ends each watch after 300 s."""

_KINDS = frozenset(kind.kind for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER))
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Kept:
    """An Event, and which change it was: a later one has a larger number."""

    number: int
    moment: datetime
    event: Event


class Recent:
    """Follows them in some namespaces or (without any) in all; ``changed`` is called each time."""

    def __init__(
        self, namespaces: Iterable[str] = (), changed: Callable[[], None] = lambda: None
    ) -> None:
        self._namespaces: list[str | None] = list(namespaces) or [None]
        self._changed = changed
        self._kept: dict[str, Kept] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.number = 0
        """Of the latest change, what goes included."""

    def start(self, kube: Kube) -> None:
        """Follow the API server until `stop`."""
        self._tasks = [asyncio.create_task(self._follow(kube, one)) for one in self._namespaces]

    async def stop(self) -> None:
        """Follow it no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def seen(self, namespaces: frozenset[str] | None) -> dict[str, Kept]:
        """Those of these namespaces (None: of all) by id, the oldest first."""
        found = [
            (key, kept)
            for key, kept in self._kept.items()
            if namespaces is None or kept.event.namespace in namespaces
        ]
        return dict(sorted(found, key=lambda pair: (pair[1].moment, pair[0])))

    def put(self, obj: Object) -> None:
        """Take over an Event, in the place of the oldest where there are too many."""
        regarding, meta = obj.get("regarding") or {}, obj["metadata"]
        if regarding.get("kind") not in _KINDS:
            return
        moment, count = _last(obj)
        event = Event(
            id=f"{meta['namespace']}.{meta['name']}",
            type="Warning" if obj.get("type") == "Warning" else "Normal",
            reason=obj.get("reason") or "",
            message=obj.get("note") or "",
            kind=regarding["kind"],
            namespace=meta["namespace"],
            name=regarding.get("name") or "",
            count=count,
            last_seen=rfc3339(moment),
        )
        self.number += 1
        self._kept[event.id] = Kept(self.number, moment, event)
        if len(self._kept) > KEPT:
            del self._kept[min(self._kept, key=lambda key: self._kept[key].moment)]
        self._changed()

    def drop(self, obj: Object) -> None:
        """Forget an Event: Kubernetes keeps them for an hour."""
        meta = obj["metadata"]
        if self._kept.pop(f"{meta['namespace']}.{meta['name']}", None) is not None:
            self.number += 1
            self._changed()

    async def _follow(self, kube: Kube, namespace: str | None) -> None:
        watch = kube.watch(EVENT, namespace, field_selector=ABOUT, inactivity=SILENCE)
        async with aclosing(watch) as changes:
            async for change in changes:
                if change.type == "DELETED":
                    self.drop(change.object)
                elif change.type != "SYNCED":
                    self.put(change.object)


def _last(obj: Object) -> tuple[datetime, int]:
    """When it last happened, and how often it has: a series says so, or what old clients write."""
    series = obj.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        obj.get("deprecatedLastTimestamp"),
        obj.get("eventTime"),
        obj["metadata"].get("creationTimestamp"),
    )
    moment = next((found for found in map(parsed, times) if found), _EVER)
    return moment, max(series.get("count") or obj.get("deprecatedCount") or 1, 1)
