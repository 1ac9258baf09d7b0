"""What people could read of a fleet while something was wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER
from tests.cluster.fleet import Api

_PAUSE = 0.3
_OURS = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)


class Witness:
    """Reads all conditions of a namespace, again and again; `said` keeps what was not well, in
    order: `OllamaNode/a: Unreachable: message`; of servers and tasks, `OllamaNode/a Offline: …`.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self.said: list[str] = []
        self.now: list[str] = []

    def _look(self) -> None:
        found: list[str] = []
        for kind in _OURS:
            for obj in self._api.all(kind, self._namespace):
                name = f"{kind.kind}/{obj['metadata']['name']}"
                for one in (obj.get("status") or {}).get("conditions") or ():
                    wanted = "True" if one["type"] == "Ready" else "False"
                    usual = one["type"] not in ("Ready", "Stalled")
                    if one["status"] != wanted and not usual:
                        found.append(f"{name}: {one['reason']}: {one['message']}")
                servers = (obj.get("status") or {}).get("servers") or ()
                if kind is OLLAMA_NODE:
                    found += [
                        f"{name} {one['state']}: {one.get('message', '')}"
                        for one in servers
                        if one["state"] != "Ready"
                    ]
                tasks = (obj.get("status") or {}).get("tasks") or ()
                found += [
                    f"{name} {one['reason']}: {one['message']}"
                    for one in tasks
                    if one.get("reason") == "BackingOff" or one["state"] == "Failed"
                ]
        self.now = found
        self.said += [one for one in found if one not in self.said]

    @contextmanager
    def looking(self) -> Iterator[None]:
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                try:
                    self._look()
                except (httpx2.HTTPError, AssertionError):
                    time.sleep(_PAUSE)
                stop.wait(_PAUSE)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(60)
