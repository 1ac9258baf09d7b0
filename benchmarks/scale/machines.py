"""Machines that run nothing: pods bound to them are Running at once, and servers answer for them.

python -m benchmarks.scale.machines DIRECTORY COUNT: a kubelet of COUNT machines of the cluster in
DIRECTORY. Lines on standard input: `fail POD` ends a pod's server, `start POD` starts it again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import uvloop

from benchmarks.scale.servers import Registry, Server
from dev.cluster import Cluster
from dev.machines import nodes
from dev.machines.agent import claim_address
from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.containers import now
from dev.machines.machine import Machine
from ollama_fleet.api.servers import OLLAMANODE_LABEL

PODS = 250
"""Pods of one machine: as many addresses as it has."""
_KUBELET_PORT = 21250


class Machines:
    """The kubelet of all machines."""

    def __init__(self, api: ApiServer, registry: Registry, block: str) -> None:
        self._api = api
        self._registry = registry
        self._address = f"{block}.0.1"
        self._free = (
            f"{block}.{machine}.{pod}"
            for machine, pod in itertools.product(range(1, 250), range(2, PODS))
        )
        self._pods: dict[str, Object] = {}
        self._servers: dict[str, Server] = {}
        self._names: dict[str, str] = {}
        self._places = asyncio.Semaphore(32)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, count: int) -> None:
        """Follow the pods for ever."""
        for number in range(count):
            machine = Machine(f"machine-{number}", vendor="none", resources={"pods": str(PODS)})
            self._start(nodes.keep(self._api, machine, self._address, _KUBELET_PORT))
        async for event in self._api.watch("/api/v1/pods"):
            uid = event.object["metadata"]["uid"]
            if event.kind == "DELETED":
                self._end(uid)
            elif not event.object["spec"].get("nodeName", "").startswith("machine-"):
                continue
            elif event.object["metadata"].get("deletionTimestamp"):
                self._start(self._remove(event.object))
            elif uid not in self._pods:
                self._pods[uid] = event.object
                self._start(self._run(event.object))

    def fail(self, name: str) -> None:
        """End a pod's server as a crash would; its kubelet notices at once."""
        uid = self._names[name]
        self._servers[uid].stop()
        self._start(self._tell(self._pods[uid], self._servers[uid].address, ready=False))

    async def start(self, name: str) -> None:
        """Start it again, with the models it had."""
        uid = self._names[name]
        await self._servers[uid].start()
        await self._tell(self._pods[uid], self._servers[uid].address, ready=True)

    async def _run(self, pod: Object) -> None:
        meta, address = pod["metadata"], next(self._free)
        if OLLAMANODE_LABEL in (meta.get("labels") or {}):
            server = self._servers[meta["uid"]] = Server(self._registry, address)
            self._names[meta["name"]] = meta["uid"]
            await server.start()
        await self._tell(pod, address, ready=True)

    async def _tell(self, pod: Object, address: str, *, ready: bool) -> None:
        state = "True" if ready else "False"
        conditions = [
            {"type": kind, "status": state if kind.endswith("Ready") else "True"}
            for kind in ("Initialized", "ContainersReady", "Ready")
        ]
        containers = [
            {
                "name": each["name"],
                "image": each["image"],
                "imageID": "",
                "ready": ready,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": now()}},
            }
            for each in pod["spec"]["containers"]
        ]
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "hostIP": self._address,
            "conditions": [{**each, "lastTransitionTime": now()} for each in conditions],
            "containerStatuses": containers,
        }
        async with self._places:
            await self._again("patch", f"{_path(pod)}/status", {"status": status})

    async def _remove(self, pod: Object) -> None:
        async with self._places:
            await self._again("delete", _path(pod), {"gracePeriodSeconds": 0})

    async def _again(self, method: str, path: str, body: Any) -> None:
        """Ask until it is done; a pod that is gone needs nothing any more."""
        while True:
            try:
                await getattr(self._api, method)(path, body)
            except ApiError as error:
                if error.status in (404, 409):
                    return
            except httpx2.HTTPError:
                pass
            else:
                return
            await asyncio.sleep(0.2)

    def _end(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        server = self._servers.pop(uid, None)
        if server is not None:
            server.stop()
        if pod is not None and self._names.get(pod["metadata"]["name"]) == uid:
            del self._names[pod["metadata"]["name"]]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _path(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


async def _main(directory: Path, count: int) -> None:
    cluster = Cluster.open(directory)
    assert cluster is not None
    certificates = directory / "certificates"
    api = ApiServer(
        cluster.url,
        authority=certificates / "ca.crt",
        certificate=certificates / "admin.crt",
        key=certificates / "admin.key",
    )
    log = (directory / "logs" / "registry.log").read_text()
    listener = claim_address()
    block = listener.getsockname()[0].rsplit(".", 2)[0]
    machines = Machines(api, Registry(json.loads(log.splitlines()[0])["url"]), block)
    running = asyncio.create_task(machines.run(count))
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split():
        what, name = line
        if what == "fail":
            machines.fail(name)
        else:
            await machines.start(name)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await api.close()
    listener.close()


def main() -> None:
    """Run until standard input ends."""
    uvloop.run(_main(Path(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
