"""An HTTP proxy in front of the API server, where requests and events meet faults."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from dev.cluster import Cluster
from ollama_fleet.kube.kinds import Object
from tests.faults.calls import Call, Reply, call_of

_PASSED_ON = ("authorization", "accept", "content-type", "user-agent")


class Dropped(Exception):  # noqa: N818
    """Raised by a fault: the connection ends here, without an answer."""


class Fault:
    """What happens to requests, answers and events on the way: nothing, but for subclasses."""

    met = False
    """Whether it came to it."""

    async def request(self, call: Call) -> Reply | None:
        """An answer to give instead of passing the request on."""
        return None

    async def reply(self, call: Call, reply: Reply) -> Reply:
        """What is answered to a request that was passed on."""
        return reply

    async def event(self, call: Call, event: Object) -> list[Object]:
        """The events of a watch that arrive instead of one."""
        return [event]


class Proxy:
    """Speaks HTTP to an operator, and to the API server TLS.

    `writes` are the operator's that were passed on, and `events` those it was sent: each with the
    loop's time.
    """

    def __init__(self, cluster: Cluster, fault: Fault | None = None) -> None:
        self.fault = fault or Fault()
        self.writes: list[tuple[float, Call]] = []
        self.events: list[tuple[float, Call, Object]] = []
        self.watching = False
        """Whether a watch was ever asked for."""
        self.began = asyncio.get_running_loop().time()
        self.port = 0
        self._upstream = cluster.url
        authority = cluster.directory / "certificates" / "ca.crt"
        self._trust = ssl.create_default_context(cafile=str(authority))
        self._tasks: set[asyncio.Task[Any]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._trust, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        assert self._session is not None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()

    def kubeconfig(self, path: Path, given: Path) -> Path:
        """Write a kubeconfig that leads here, for the user of another."""
        document = yaml.safe_load(given.read_text())
        document["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        path.write_text(yaml.safe_dump(document))
        return path

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._follow(task)
        body = await request.read()
        call = call_of(request.method, request.path, request.query, request.headers, body)
        try:
            instead = await self.fault.request(call)
            if instead is not None:
                return _response(instead)
            if call.watches:
                return await self._watch(request, call)
            # what an operator has sent is done, though it may be dead by then
            sending = asyncio.create_task(self._send(request, call))
            self._follow(sending)
            answer = await asyncio.shield(sending)
            return _response(await self.fault.reply(call, answer))
        except (Dropped, aiohttp.ClientError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    def _follow(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # has been answered for by whoever waited, if anybody still did

    async def _send(self, request: web.Request, call: Call) -> Reply:
        if call.writes:
            self.writes.append((asyncio.get_running_loop().time(), call))
        assert self._session is not None
        async with self._session.request(
            call.method,
            self._upstream + request.path_qs,
            data=call.body or None,
            headers=_passed_on(request),
        ) as answer:
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name in ("Content-Type", "Retry-After")
            }
            return Reply(answer.status, await answer.read(), kept)

    async def _watch(self, request: web.Request, call: Call) -> web.StreamResponse:
        self.watching = True
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        url = self._upstream + request.path_qs
        async with self._session.get(url, headers=_passed_on(request), timeout=timeout) as answer:
            if answer.status != 200:
                return _response(Reply(answer.status, await answer.read()))
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            with suppress(OSError):
                async with aclosing(_lines(answer.content)) as lines:
                    async for line in lines:
                        for event in await self.fault.event(call, json.loads(line)):
                            now = asyncio.get_running_loop().time()
                            self.events.append((now, call, event))
                            await response.write(json.dumps(event).encode() + b"\n")
            return response


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _passed_on(request: web.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name.lower() in _PASSED_ON}


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": "application/json", **reply.headers}
    return web.Response(status=reply.status, body=reply.body, headers=headers)
