"""An API server in memory, for what needs no more of one, and a console that asks it."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import uvicorn
import uvloop

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.console.app import Api, Parts
from ollama_fleet.console.fleet import Settings
from ollama_fleet.console.identity import Identity
from ollama_fleet.console.metrics import Metrics
from ollama_fleet.console.models import Models
from ollama_fleet.console.offers import Offers, offers
from ollama_fleet.console.patience import Protocol
from ollama_fleet.console.recent import Recent
from ollama_fleet.console.store import Store
from ollama_fleet.console.traffic import Traffic
from ollama_fleet.kube import Kind, Kube, Object, WatchEvent
from ollama_fleet.kube.errors import error_for

HOME = "fleet"
"""Where machines register."""
TOKENS = {"good": True, "weak": False}
"""Bearer tokens, and whether their owners may do everything or nothing."""


class Memory:
    """What the client's transport reaches: objects, by path."""

    server = "https://127.0.0.1:1"

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.watches: list[tuple[str, asyncio.Queue[WatchEvent]]] = []
        self._numbers = itertools.count(1)

    async def request(
        self, method: str, path: str, query: Any = None, body: Any = None, content_type: str = ""
    ) -> Object:
        """As `kube.transport.Transport` does."""
        if path.endswith("reviews"):
            return _reviewed(body)
        if path.endswith("/pods"):
            return {"items": [], "metadata": {}}
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise error_for(409, {"reason": "AlreadyExists", "message": "it exists already"})
        elif method != "PATCH" or content_type != "application/apply-patch+yaml":
            self._known(path)
        if method == "GET":
            return self.objects[path]
        if method == "DELETE":
            if body["preconditions"]["uid"] != self.objects[path]["metadata"]["uid"]:
                raise error_for(409, {"reason": "Conflict", "message": "Precondition failed"})
            gone = self.objects.pop(path)
            self._tell(path, WatchEvent("DELETED", gone))
            return gone
        known = self.objects.get(path)
        return self.keep(path, _merged(known or _new(), body))

    def keep(self, path: str, obj: Object) -> Object:
        """An object as it is from now on."""
        known = self.objects.get(path)
        meta = obj["metadata"] | {"resourceVersion": str(next(self._numbers))}
        self.objects[path] = obj = obj | {"metadata": meta}
        self._tell(path, WatchEvent("MODIFIED" if known else "ADDED", obj))
        return obj

    def _known(self, path: str) -> None:
        if path not in self.objects:
            name = path.rpartition("/")[2]
            raise error_for(404, {"message": f"{name} not found", "details": {"name": name}})

    def _tell(self, path: str, event: WatchEvent) -> None:
        for plural, queue in self.watches:
            if path.split("/")[-2] == plural:
                queue.put_nowait(event)

    async def acting(self, _: str) -> Memory:
        """Everybody's calls end here."""
        return self

    async def close(self) -> None:
        """Nothing is open."""


class MemoryKube(Kube):
    """Calls to it."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)  # type: ignore[arg-type]
        self._memory = memory

    async def watch(
        self, kind: Kind, namespace: str | None = None, *_: Any, **__: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        """What is there, then every change."""
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        for path, obj in self._memory.objects.items():
            if path.split("/")[-2] == kind.plural:
                queue.put_nowait(WatchEvent("ADDED", obj))
        queue.put_nowait(WatchEvent("SYNCED"))
        self._memory.watches.append((kind.plural, queue))
        while True:
            yield await queue.get()


def _reviewed(review: Object) -> Object:
    spec = review["spec"]
    if review["kind"] == "TokenReview":
        known = spec["token"] in TOKENS
        user = {"username": spec["token"], "uid": spec["token"], "groups": []}
        return {"status": {"authenticated": known, "user": user}}
    return {"status": {"allowed": TOKENS[spec["user"]]}}


def _new() -> Object:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"metadata": {"uid": str(uuid4()), "creationTimestamp": at, "generation": 1}}


def _merged(known: Any, change: Any) -> Any:
    if not isinstance(known, dict) or not isinstance(change, dict):
        return change
    return known | {name: _merged(known.get(name), child) for name, child in change.items()}


@contextmanager
def console(*objects: Object) -> Iterator[str]:
    """It serves a fleet of these objects, in a thread of its own; its URL."""
    memory = Memory()
    kube = MemoryKube(memory)
    started, stop = threading.Event(), threading.Event()
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)

    async def serve() -> None:
        store = Store()
        for one in objects:
            await kube.apply(one)
        store.start(kube)

        catalogue = await offers(kube, HOME)

        async def offered() -> Offers:
            return catalogue

        parts = Parts(
            store,
            Identity(kube),
            # no registry answers: each model would be asked for on the Internet
            Models(Mirror("127.0.0.1:1", frozenset(("registry.ollama.ai", "hf.co")))),
            offered,
            Settings(HOME, timedelta(seconds=60)),
            lambda: datetime.now(UTC),
            Metrics(),
            Traffic(kube, ()),
            Recent(),
        )
        config = uvicorn.Config(
            Api(parts).routes(), http=Protocol, ws="none", lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not (server.started and store.synced):  # noqa: ASYNC110 -- uvicorn has no event
            await asyncio.sleep(0.01)
        started.set()
        await asyncio.to_thread(stop.wait)
        server.should_exit = server.force_exit = True
        await serving
        await store.stop()

    thread = threading.Thread(target=uvloop.run, args=(serve(),))
    thread.start()
    assert started.wait(20)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        stop.set()
        thread.join(20)
        listening.close()
