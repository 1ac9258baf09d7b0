"""Services of type LoadBalancer: a port of 127.0.0.1 that leads to the service's ready pods."""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import httpx2

from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.pods import Pod

ADDRESS = "127.0.0.1"
LOCAL_ADDRESS = "ollamafleet.dev/local-address"
_PRIVILEGED_OFFSET = 8000
_PORTS_TRIED = 200
_CHUNK = 1 << 16

Pods = Callable[[], list[Pod]]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class _Front:
    """One service: its latest object, and a listener per port."""

    service: Object
    listeners: dict[int, asyncio.Server] = field(default_factory=dict)

    def close(self) -> None:
        for listener in self.listeners.values():
            listener.close()


async def serve(api: ApiServer, pods: Pods) -> None:
    """Forward for every LoadBalancer service, for ever; `pods` gives those that run here."""
    fronts: dict[str, _Front] = {}
    async for event in api.watch("/api/v1/services"):
        service = event.object
        uid = service["metadata"]["uid"]
        wanted = event.kind != "DELETED" and service["spec"].get("type") == "LoadBalancer"
        if not wanted:
            if gone := fronts.pop(uid, None):
                gone.close()
            continue
        front = fronts.setdefault(uid, _Front(service))
        front.service = service
        with suppress(ApiError, httpx2.HTTPError):
            await _listen(api, front, pods)


async def _listen(api: ApiServer, front: _Front, pods: Pods) -> None:
    """Open and close listeners as the ports ask for, and write where they are."""
    ports = {int(port["port"]): port for port in front.service["spec"].get("ports") or []}
    for number in [number for number in front.listeners if number not in ports]:
        front.listeners.pop(number).close()
    for number in ports:
        if number not in front.listeners:
            turns = itertools.count()
            front.listeners[number] = await _open(number, _forwarder(front, number, pods, turns))
    real = {number: _port(listener) for number, listener in front.listeners.items()}
    where = ",".join(f"{ADDRESS}:{port}" for port in real.values())
    meta = front.service["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}"
    if (meta.get("annotations") or {}).get(LOCAL_ADDRESS) != where:
        await api.merge(path, {"metadata": {"annotations": {LOCAL_ADDRESS: where}}})
    shown = [{"port": port, "protocol": "TCP"} for port in real.values()]
    ingress = [{"ip": ADDRESS, "ipMode": "VIP", "ports": shown}]
    if (front.service.get("status") or {}).get("loadBalancer", {}).get("ingress") != ingress:
        await api.merge(f"{path}/status", {"status": {"loadBalancer": {"ingress": ingress}}})


def _forwarder(front: _Front, number: int, pods: Pods, turns: Iterator[int]) -> Handler:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for address, port in _backends(front.service, number, pods(), next(turns)):
                try:
                    there = await asyncio.open_connection(address, port)
                except OSError:
                    continue
                await _join((reader, writer), there)
                return
        finally:
            writer.close()

    return forward


def _backends(service: Object, number: int, pods: list[Pod], turn: int) -> list[tuple[str, int]]:
    """The addresses of the ready pods behind a port, beginning with another one each turn."""
    spec = service["spec"]
    selector = spec.get("selector") or {}
    port = next((each for each in spec["ports"] if int(each["port"]) == number), None)
    if not selector or port is None:
        return []
    target = port.get("targetPort") or number
    found = []
    for pod in pods:
        meta = pod.object["metadata"]
        labels = meta.get("labels") or {}
        if (
            meta["namespace"] == service["metadata"]["namespace"]
            and pod.ready
            and not meta.get("deletionTimestamp")
            and selector.items() <= labels.items()
        ):
            there = target if isinstance(target, int) else pod.ports().get(target)
            if there:
                found.append((pod.address, there))
    start = turn % len(found) if found else 0
    return found[start:] + found[:start]


async def _join(
    here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Carry bytes both ways until both ends have closed, or one breaks."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    ways = [
        asyncio.create_task(carry(here[0], there[1])),
        asyncio.create_task(carry(there[0], here[1])),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        there[1].close()


async def _open(wanted: int, handler: Handler) -> asyncio.Server:
    """Listen on the wanted port, or on the next one that is free."""
    port = wanted
    for _ in range(_PORTS_TRIED):
        try:
            return await asyncio.start_server(handler, ADDRESS, port)
        except OSError as error:
            denied = error.errno == errno.EACCES
            port = port + _PRIVILEGED_OFFSET if denied and port < 1024 else port + 1
    return await asyncio.start_server(handler, ADDRESS, 0)


def _port(listener: asyncio.Server) -> int:
    return int(listener.sockets[0].getsockname()[1])
