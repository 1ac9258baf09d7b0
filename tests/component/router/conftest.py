"""A router in the test's own event loop, and servers of which a test writes every byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import uvloop

from ollama_fleet.router.config import parse
from ollama_fleet.router.server import Router
from tests.component.router.peers import HELLO, Answer, Backend, Client, eventually

QUICK = {
    "health": {"interval": "100ms", "timeout": "2s", "breaker": {"cooldown": "300ms"}},
}


class Running:
    """A router that serves, and its port."""

    def __init__(self, router: Router, port: int, operators_port: int) -> None:
        self.router = router
        self.port = port
        self.operators_port = operators_port

    @property
    def in_flight(self) -> int:
        """Requests that servers are working on."""
        return sum(server.load.in_flight for server in self.router.fleet.snapshot.servers)


Start = Callable[..., Awaitable[Running]]
Serve = Callable[..., Awaitable[Backend]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(backend, …, retry={…})` gives a router that has probed its servers."""
    async with AsyncExitStack() as stack:

        async def started(*backends: Backend, **spec: Any) -> Running:
            listed = [{"url": backend.url, **backend.settings} for backend in backends]
            return await stack.enter_async_context(routing(listed, {**QUICK, **spec}))

        yield started


@asynccontextmanager
async def routing(backends: list[dict[str, Any]], spec: dict[str, Any]) -> AsyncIterator[Running]:
    settings = parse({"backends": backends, **spec})
    router = Router(settings)
    router.configure(settings)
    router.fleet.want(settings.backends)
    port = await router.listen("127.0.0.1", 0)
    operators_port = await router.listen_for_operators("127.0.0.1", 0)
    try:
        await eventually(lambda: router.prober.settled)
        yield Running(router, port, operators_port)
    finally:
        await router.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(answer)` gives a listening server."""
    async with AsyncExitStack() as stack:

        async def serving(answer: Answer = HELLO, **settings: Any) -> Backend:
            backend = Backend(answer, settings)
            await backend.listen()
            stack.push_async_callback(backend.stop)
            return backend

        yield serving


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    """No exception may be lost in a callback, and no connection left open."""
    lost: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: lost.append(context))
    yield
    while Client.live:
        Client.live.pop().leave()
    assert not lost
