"""Events about pods, as a kubelet records them, so that `kubectl describe` tells the story."""

from __future__ import annotations

import asyncio
import secrets

import httpx2

from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.containers import now


class Recorder:
    """Records events one after the other; the same text again counts up the one before."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._queue: asyncio.Queue[tuple[str, Object]] = asyncio.Queue(1000)
        self._names: dict[tuple[str, str, str], tuple[str, int]] = {}

    def record(self, pod: Object, kind: str, reason: str, message: str, machine: str) -> None:
        """Note an event about a pod: `kind` is Normal or Warning."""
        meta = pod["metadata"]
        key = (str(meta["uid"]), reason, message)
        name, count = self._names.get(key, (f"{meta['name']}.{secrets.token_hex(6)}", 0))
        self._names[key] = (name, count + 1)
        event: Object = {
            "metadata": {"name": name, "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "source": {"component": "kubelet", "host": machine},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": count + 1,
        }
        if not self._queue.full():
            self._queue.put_nowait((name, event))

    async def run(self) -> None:
        """Send what is recorded, for ever; an event that is refused is lost."""
        while True:
            name, event = await self._queue.get()
            path = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
            try:
                if event["count"] > 1:
                    change = {"count": event["count"], "lastTimestamp": event["lastTimestamp"]}
                    await self._api.merge(f"{path}/{name}", change)
                else:
                    await self._api.create(path, event)
            except (ApiError, httpx2.HTTPError):
                continue
