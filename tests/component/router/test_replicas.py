"""Replicas of a router that know of each other: caps hold across them, and none is passed over."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from ollama_fleet.router.sharing import STALE_SECONDS
from tests.component.router.conftest import QUICK, Running, Serve, routing
from tests.component.router.peers import (
    HELLO,
    Backend,
    Client,
    Exchange,
    chat,
    eventually,
    get,
)

Start = Callable[..., Awaitable[list[Running]]]


@pytest.fixture
async def replicas() -> AsyncIterator[Start]:
    """`await replicas(3, backend, …)` gives routers in front of the same servers, each of which
    knows the addresses of all, its own included."""
    async with AsyncExitStack() as stack:

        async def started(count: int, *backends: Backend) -> list[Running]:
            listed = [{"url": backend.url, **backend.settings} for backend in backends]
            spec = {**QUICK, "queue": {"size": 1000}}
            found = [await stack.enter_async_context(routing(listed, spec)) for _ in range(count)]
            for one in found:
                one.router.replicas.want(("127.0.0.1", other.operators_port) for other in found)
            await eventually(lambda: all(known(one) == count - 1 for one in found))
            return found

        yield started


def known(router: Running) -> int:
    return len(router.router.relay.admission._shares._told)


class Working:
    """A server's answers that take a moment; how many there are at once, and who asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0
        self.most = 0
        self.served: list[str] = []

    async def answer(self, exchange: Exchange) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            self.served.append(json.loads(exchange.body)["who"])
            await HELLO(exchange)
        finally:
            self.now -= 1


async def ask(router: Running, who: str, count: int) -> list[asyncio.Task[object]]:
    body = json.dumps({"model": "m", "who": who}).encode()
    return [asyncio.create_task(chat(router.port, body)) for _ in range(count)]


async def test_what_each_tells(replicas: Start, serve: Serve) -> None:
    working = Working(60)
    backend = await serve(working.answer)
    one, two = await replicas(2, backend)
    tasks = await ask(one, "a", 3)
    await eventually(lambda: working.now == 1)
    told = json.loads((await get(one.operators_port, "/inflight")).body)
    assert told["inFlight"] == {backend.url: {"m:latest": 1}}
    assert told["waiting"] == {"m:latest": 2}
    (server,) = two.router.fleet.snapshot.servers
    await eventually(lambda: server.load.others == {"m:latest": 1})
    for task in tasks:
        task.cancel()
    await eventually(lambda: server.load.others == {})


@pytest.mark.parametrize(("count", "parallel"), [(3, 4), (2, 1)])
async def test_a_cap_holds_across_replicas(
    replicas: Start, serve: Serve, count: int, parallel: int
) -> None:
    working = Working(0.05)
    routers = await replicas(count, await serve(working.answer, parallel=parallel))
    tasks = [task for one in routers for task in await ask(one, "x", 20)]
    await eventually(lambda: len(working.served) >= 10)
    in_the_burst, working.most = working.most, 0
    await asyncio.gather(*tasks)
    assert len(working.served) == count * 20
    # bursts at one instant: at most one more for each other replica
    assert parallel <= in_the_burst <= parallel + count - 1
    # afterwards at most one, where a slot's turn passes on while the news of it is under way
    assert working.most <= parallel + 1


async def test_slots_freed_by_another_replica_are_used(replicas: Start, serve: Serve) -> None:
    """No request of the second ever ends, so only what the first tells can get it going."""
    working = Working(0.3)
    one, two = await replicas(2, await serve(working.answer))
    first = await ask(one, "a", 1)
    await eventually(lambda: working.now == 1)
    (server,) = two.router.fleet.snapshot.servers
    await eventually(lambda: server.load.others == {"m:latest": 1})
    second = await ask(two, "b", 1)
    await asyncio.gather(*first, *second)
    assert working.served == ["a", "b"]
    assert working.most == 1


async def test_one_replica_does_not_starve_another(replicas: Start, serve: Serve) -> None:
    """Whoever frees the only slot knows it first, and yet leaves it to the other."""
    working = Working(0.05)
    one, two = await replicas(2, await serve(working.answer))
    first = await ask(one, "a", 200)
    await eventually(lambda: working.served.count("a") >= 5)
    await asyncio.gather(*await ask(two, "b", 5))
    assert working.served.count("a") < 100
    assert working.most <= 2
    for task in first:
        task.cancel()


async def test_a_replica_that_dies_is_forgotten(replicas: Start, serve: Serve) -> None:
    working = Working(60)
    one, two = await replicas(2, await serve(working.answer))
    tasks = await ask(one, "a", 1)
    (server,) = two.router.fleet.snapshot.servers
    await eventually(lambda: server.load.others == {"m:latest": 1})
    await one.router.close()
    await eventually(lambda: server.load.others == {}, STALE_SECONDS + 2)
    assert known(two) == 0
    for task in tasks:
        task.cancel()


async def test_one_that_is_taken_off_the_list(replicas: Start, serve: Serve) -> None:
    working = Working(60)
    one, two = await replicas(2, await serve(working.answer))
    tasks = await ask(one, "a", 1)
    (server,) = two.router.fleet.snapshot.servers
    await eventually(lambda: server.load.others == {"m:latest": 1})
    two.router.replicas.want(())
    await eventually(lambda: server.load.others == {})
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", b"nonsense\r\n\r\n"]
    + [
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(told), told)
        for told in (b"{}", b"[", b"[]", b'{"replica":"x","inFlight":{"u":3},"waiting":{}}')
    ]
    + [b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n", b"x" * (1 << 17)],
)
async def test_nonsense_is_as_good_as_nothing(replicas: Start, serve: Serve, answer: bytes) -> None:
    asked = 0

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(answer)
        writer.close()

    (one,) = await replicas(1, await serve(HELLO))
    liar = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    one.router.replicas.want([("127.0.0.1", liar.sockets[0].getsockname()[1])])
    await eventually(lambda: asked >= 2)
    assert known(one) == 0
    client = await Client.connect(one.port)
    client.ask()
    assert (await client.reply()).status == 200
    liar.close()
