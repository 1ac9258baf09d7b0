"""Everything that changes, as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from ollama_fleet.console import resources, tasks
from ollama_fleet.console.agents import agents_of
from ollama_fleet.console.fleet import Settings, View
from ollama_fleet.console.recent import Recent
from ollama_fleet.console.refusal import Refusal
from ollama_fleet.console.store import KINDS, Kept, Store
from ollama_fleet.console.traffic import Traffic
from ollama_fleet.kube.kinds import EVENT, MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER

FIRST = 200
"""Events told to who connects."""
GATHER = 0.25
"""Seconds for which changes are gathered before they are sent."""
LOOK = 10.0
"""Seconds after which all is looked at again, as who is silent goes offline, and rights end."""

Key = tuple[str, str, str]
Sent = dict[Key, tuple[int, dict[tuple[str, str], str]]]
"""By object: which change of it, and what was sent of it by kind of event and id."""

Seen = dict[str, frozenset[str] | None]
"""By kind, the namespaces where a person may see it; None: everywhere."""

_RETRY = b"retry: 3000\n\n"


class Stream:
    """What one person is sent; of each object only what differs from what was sent before."""

    def __init__(
        self,
        store: Store,
        view: View,
        settings: Settings,
        clock: Callable[[], datetime],
        namespace: str | None,
        known: Callable[[], Awaitable[object]],
        traffic: Traffic,
        recent: Recent,
    ) -> None:
        self._known = known
        """Raises `Refusal` once the person's token is worth nothing any more."""
        self._store = store
        self._view = view
        self._settings = settings
        self._clock = clock
        self._namespace = namespace
        self._traffic = traffic
        self._sent: Sent = {}
        self._passing: dict[str, str] = {}
        """What was sent of the traffic of each router."""
        self._recent = recent
        self._happened: set[str] = set()
        """The Events that were sent."""
        self._number: int | None = None
        """Of the latest change of Events that was looked at."""

    async def events(self) -> AsyncIterator[bytes]:
        """Bytes to send, until the person's rights end; raises `Refusal` before the first."""
        seen = await self._seen()
        routed = seen[ROUTER.kind] is None or seen[ROUTER.kind]
        with self._traffic.looking() if routed else nullcontext():
            async for told in self._from(seen):
                yield told

    async def _from(self, seen: Seen) -> AsyncIterator[bytes]:
        first = (*self.changes(seen, again=True), *self.happened(seen), *self.passing(seen))
        yield _RETRY + b"".join(first) + _event("synced", "{}")
        looked = asyncio.get_running_loop().time()
        while True:
            await self._store.wait(LOOK)
            await asyncio.sleep(GATHER)
            now = asyncio.get_running_loop().time()
            again = now - looked >= LOOK
            if again:
                looked = now
                try:
                    seen = await self._seen()
                except Refusal as refusal:
                    if refusal.status != 503:
                        return
            told = b"".join(self.changes(seen, again))
            told += b"".join((*self.passing(seen), *self.happened(seen)))
            if told or again:
                # a line that says nothing shows that the connection is well
                yield told or b": all is well\n\n"

    async def _seen(self) -> Seen:
        """Where the person may see which kind."""
        await self._known()
        found: Seen = {}
        refusals = []
        for kind in (*KINDS, EVENT):
            try:
                found[kind.kind] = await self._view.where(kind, self._namespace)
            except Refusal as refusal:
                if refusal.status != 403:
                    raise
                found[kind.kind] = frozenset()
                refusals.append(refusal)
        if not any(found[kind.kind] is None or found[kind.kind] for kind in KINDS):
            raise refusals[0]
        return found

    def changes(self, seen: Seen, again: bool) -> list[bytes]:
        """What differs from what was sent; ``again``: also of objects that have not changed."""
        made = []
        entries = self._store.entries()
        visible: dict[Key, Kept] = {}
        for key, kept in entries.items():
            where = seen[key[0]]
            if where is None or key[1] in where:
                visible[key] = kept
        for key in [key for key in self._sent if key not in visible]:
            _, told = self._sent.pop(key)
            made += [_gone(*one) for one in told]
        for key, kept in sorted(visible.items()):
            number, told = self._sent.get(key, (0, {}))
            if number == kept.number and not again:
                continue
            now = {
                (name, one["id"]): json.dumps(one, separators=(",", ":"), sort_keys=True)
                for name, one in self._parts(kept)
            }
            self._sent[key] = kept.number, now
            made += [_gone(*one) for one in told if one not in now]
            made += [_event(one[0], text) for one, text in now.items() if told.get(one) != text]
        return made

    def happened(self, seen: Seen) -> list[bytes]:
        """The Events since the last time; the first time, the latest of them."""
        found = self._recent.seen(seen[EVENT.kind])
        gone = [one for one in self._happened if one not in found]
        if self._number is None:
            new = [kept.event for kept in found.values()][-FIRST:]
        else:
            new = [kept.event for kept in found.values() if kept.number > self._number]
        self._number = self._recent.number
        self._happened.difference_update(gone)
        self._happened.update(one.id for one in new)
        return [
            *(_gone("event", one) for one in gone),
            *(_event("event", one.model_dump_json()) for one in new),
        ]

    def passing(self, seen: Seen) -> list[bytes]:
        """What differs in the traffic of routers."""
        where = seen[ROUTER.kind]
        now = {
            router: json.dumps({"id": router, **told.model_dump()}, separators=(",", ":"))
            for router, told in self._traffic.all().items()
            if where is None or router.partition(".")[0] in where
        }
        before, self._passing = self._passing, now
        made = [_gone("traffic", router) for router in before if router not in now]
        changed = (text for router, text in now.items() if before.get(router) != text)
        return made + [_event("traffic", text) for text in changed]

    def _parts(self, kept: Kept) -> list[tuple[str, dict[str, Any]]]:
        if kept.kind == OLLAMA_NODE:
            found = agents_of(kept.object, self._clock(), self._settings.offline_after)
            node = resources.node(kept.object)
            return [("node", node.model_dump()), *(("agent", one.model_dump()) for one in found)]
        if kept.kind == MODEL_DISTRIBUTION:
            servers = self._store.servers()
            every = (*tasks.tasks_of(kept.object), *tasks.promised(kept.object, servers))
            told = resources.distribution(kept.object)
            return [
                ("distribution", told.model_dump()),
                *(("task", tasks.wire(one)) for one in every),
            ]
        return [("router", resources.router(kept.object).model_dump(exclude={"traffic"}))]


def _event(name: str, text: str) -> bytes:
    return f"event: {name}\ndata: {text}\n\n".encode()


def _gone(name: str, identity: str) -> bytes:
    return _event(f"{name}-removed", json.dumps({"id": identity}))
