"""The machine agent: one process that is the kubelet of all simulated machines."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2

from dev.cluster.programs import AGENT_ADDRESSES
from dev.machines import claims, devices, loadbalancers, logs, memory, nodes
from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.containers import Backoff
from dev.machines.events import Recorder
from dev.machines.machine import Machine, load_all, turned
from dev.machines.metrics import Meter
from dev.machines.pods import Pod, Site
from dev.machines.tasks import persist, spawn, until_done

_KUBELET_PORT = 21250  # not a kubelet's own, which may run here and listen on 0.0.0.0
_MACHINES_EVERY = 0.25  # seconds between looks at the machines' folder
_POD_NUMBERS = 250


class Agent:
    """Runs the machines described in `<directory>/machines` and the pods bound to them."""

    def __init__(
        self, api: ApiServer, url: str, directory: Path, client: httpx2.AsyncClient
    ) -> None:
        self._api = api
        self._directory = directory
        self._socket = claim_address()
        address = str(self._socket.getsockname()[0])
        first = float(os.environ.get("OLLAMA_FLEET_RESTART_BACKOFF") or 10)
        self._recorder = Recorder(api)
        backoff = Backoff(first, cap=first * 30)
        self._site = Site(api, url, directory, client, self._recorder, backoff, address)
        self._machines: dict[str, tuple[Machine, asyncio.Task[None]]] = {}
        self._addresses: dict[str, Iterator[str]] = {}
        self._numbers = itertools.count(1)
        self._pods: dict[str, Pod] = {}
        self._seen: dict[str, Object] = {}

    async def run(self) -> None:
        """Run until cancelled; then end every pod's processes."""
        volumes = self._directory / "volumes"
        await until_done(lambda: devices.make_class(self._api))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._recorder.run())
                tasks.create_task(self._follow_machines())
                tasks.create_task(self._follow_pods())
                tasks.create_task(persist(lambda: claims.serve(self._api, volumes)))
                tasks.create_task(loadbalancers.serve(self._api, self.pods))
                tasks.create_task(memory.enforce(self.pods))
                tasks.create_task(logs.serve(self._socket, self._directory, Meter(self.pods)))
        finally:
            await asyncio.gather(*(pod.kill() for pod in self._pods.values()))

    def pods(self) -> list[Pod]:
        """The pods that run here."""
        return list(self._pods.values())

    async def _follow_machines(self) -> None:
        """Let machines join and leave as their files come and go."""
        while True:
            wanted = load_all(self._directory / "machines")
            for name in [name for name in self._machines if name not in wanted]:
                await self._leave(name)
            for name, machine in wanted.items():
                if name not in self._machines:
                    self._join(machine)
                elif machine.kubelet != self._machines[name][0].kubelet:
                    await self._turn(machine)
            await asyncio.sleep(_MACHINES_EVERY)

    def _join(self, machine: Machine) -> None:
        """Register a machine; pods that were bound to its name before start now."""
        block = self._site.address.rsplit(".", 2)[0]
        number = next(self._numbers) % 254 + 1
        # Addresses are used in turn, so that one is not given again at once.
        turns = itertools.cycle(f"{block}.{number}.{pod}" for pod in range(2, _POD_NUMBERS))
        self._addresses[machine.name] = turns
        self._hear_of(machine)

    def _hear_of(self, machine: Machine) -> None:
        keeping = spawn(nodes.keep(self._api, machine, self._site.address, _KUBELET_PORT))
        self._machines[machine.name] = (machine, keeping)
        for pod in list(self._seen.values()):
            self._take(pod)

    async def _turn(self, machine: Machine) -> None:
        """A machine's kubelet falls silent, or its power is cut, or it is back."""
        _, keeping = self._machines[machine.name]
        keeping.cancel()
        self._machines[machine.name] = (machine, keeping)
        here = [pod for pod in self._pods.values() if pod.machine.name == machine.name]
        for pod in here:
            pod.hear(machine.kubelet == "on")
        # whoever was deleted meanwhile ends as the kubelet is back
        ended = [pod for pod in here if machine.kubelet == "off" or pod.uid not in self._seen]
        if machine.kubelet != "silent":
            await asyncio.gather(*(pod.kill() for pod in ended))
            for pod in ended:
                del self._pods[pod.uid]
        if machine.kubelet == "on":
            self._hear_of(machine)
        turned(self._directory / "machines", machine.name).write_text(machine.kubelet)

    def _hears(self, name: str) -> bool:
        return name in self._machines and self._machines[name][0].kubelet == "on"

    async def _leave(self, name: str) -> None:
        """A machine is gone: so are its processes at once, and its node and pods in the API."""
        machine, keeping = self._machines.pop(name)
        keeping.cancel()
        gone = [pod for pod in self._pods.values() if pod.machine.name == name]
        await asyncio.gather(*(pod.kill() for pod in gone))
        with suppress(ApiError, httpx2.HTTPError):
            await nodes.remove(self._api, machine)
        for pod in gone:
            self._pods.pop(pod.uid, None)
            with suppress(ApiError, httpx2.HTTPError):
                await self._api.delete(pod.path, {"gracePeriodSeconds": 0})

    async def _follow_pods(self) -> None:
        async for event in self._api.watch("/api/v1/pods"):
            uid = str(event.object["metadata"]["uid"])
            if event.kind == "DELETED":
                self._seen.pop(uid, None)
                pod = self._pods.get(uid)
                if pod and self._hears(pod.machine.name):
                    # Normally it has ended by now; a pod deleted by force has not.
                    del self._pods[uid]
                    await pod.kill()
            else:
                self._seen[uid] = event.object
                self._take(event.object)

    def _take(self, latest: Object) -> None:
        """Start a pod bound to one of our machines, or tell a running one what is new."""
        uid = str(latest["metadata"]["uid"])
        machine = latest["spec"].get("nodeName")
        if not self._hears(machine):
            return
        if pod := self._pods.get(uid):
            pod.update(latest)
            return
        if (latest.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return
        pod = Pod(self._site, self._machines[machine][0], latest, self._address(machine))
        self._pods[uid] = pod
        pod.start()
        if latest["metadata"].get("deletionTimestamp"):
            pod.update(latest)

    def _address(self, machine: str) -> str:
        """A free address of the machine's own."""
        taken = {pod.address for pod in self._pods.values()}
        return next(address for address in self._addresses[machine] if address not in taken)


def claim_address() -> socket.socket:
    """Listen on the kubelet's port of a block of addresses that no other cluster has taken."""
    for address in AGENT_ADDRESSES:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, _KUBELET_PORT))
            listener.listen()
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return listener
    raise OSError(errno.EADDRINUSE, "all blocks of addresses from 127.64.0.0 on are taken")
