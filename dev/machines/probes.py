"""Probes and lifecycle hooks: what a kubelet asks of a container, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx2

from dev.machines.apiserver import Object

Execute = Callable[[list[str], float], Awaitable[tuple[bool, str]]]
"""Runs a command in the container's environment: (succeeded, the last of what it said)."""


@dataclass(frozen=True)
class Target:
    """What a handler is pointed at: the pod's address, its named ports, its environment."""

    address: str
    ports: dict[str, int]
    execute: Execute
    client: httpx2.AsyncClient

    async def attempt(self, handler: Object, timeout: float) -> tuple[bool, str]:
        """Carry out one httpGet, tcpSocket, exec or sleep: (succeeded, why not)."""
        try:
            async with asyncio.timeout(timeout):
                if "httpGet" in handler:
                    return await self._http(handler["httpGet"])
                if "tcpSocket" in handler:
                    return await self._tcp(handler["tcpSocket"])
                if "exec" in handler:
                    return await self.execute(handler["exec"].get("command") or [], timeout)
                if "sleep" in handler:
                    await asyncio.sleep(float(handler["sleep"].get("seconds") or 0))
                    return True, ""
        except TimeoutError:
            return False, f"no answer within {timeout:g} s"
        return False, f"simulated machines have no handler {', '.join(handler)}"

    async def _http(self, get: Object) -> tuple[bool, str]:
        scheme = str(get.get("scheme") or "HTTP").lower()
        host = get.get("host") or self.address
        path = "/" + str(get.get("path") or "/").lstrip("/")
        headers = [(header["name"], header["value"]) for header in get.get("httpHeaders") or []]
        headers += [("User-Agent", "kube-probe/1.36"), ("Connection", "close")]
        url = f"{scheme}://{host}:{self._port(get['port'])}{path}"
        try:
            async with self.client.stream("GET", url, headers=headers) as response:
                code = response.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return False, f'Get "{url}": {error or type(error).__name__}'
        return 200 <= code < 400, f"HTTP probe failed with statuscode: {code}"

    async def _tcp(self, socket: Object) -> tuple[bool, str]:
        try:
            _, writer = await asyncio.open_connection(
                socket.get("host") or self.address, self._port(socket["port"])
            )
        except OSError as error:
            return False, f"dial tcp {self.address}: {error}"
        writer.close()
        return True, ""

    def _port(self, port: int | str) -> int:
        return self.ports.get(str(port)) or int(port)


async def watch(
    probe: Object, target: Target, report: Callable[[bool, str], Awaitable[None]]
) -> None:
    """Probe for ever; `report` is called when a threshold is reached, and again while it holds."""
    handler: Object = {
        key: probe[key] for key in ("httpGet", "tcpSocket", "exec", "grpc") if key in probe
    }
    period = float(probe.get("periodSeconds") or 10)
    timeout = float(probe.get("timeoutSeconds") or 1)
    needed = {True: probe.get("successThreshold") or 1, False: probe.get("failureThreshold") or 3}
    last, in_a_row = None, 0
    await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
    while True:
        healthy, why = await target.attempt(handler, timeout)
        in_a_row = in_a_row + 1 if healthy is last else 1
        last = healthy
        if in_a_row >= needed[healthy]:
            await report(healthy, why)
        await asyncio.sleep(period)
