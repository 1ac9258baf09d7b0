"""Servers that die, hang, lie or refuse; clients that leave."""

import asyncio
import json
from typing import Any

import pytest

from ollama_fleet.router.breaker import BreakerState
from ollama_fleet.router.snapshot import State
from tests.component.router.conftest import Running, Serve, Start
from tests.component.router.peers import (
    CHAT,
    HELLO,
    LAST_CHUNK,
    STREAM_HEAD,
    Backend,
    Client,
    Exchange,
    chat,
    chunk,
    eventually,
    say,
)

RARELY: dict[str, Any] = {"interval": "60s"}
BUSY = say(b'{"error":"server busy, please try again."}', "503 Service Unavailable")


async def cut(exchange: Exchange) -> None:
    exchange.cut()


async def prefer(router: Running, backend: Backend) -> None:
    """Have the next request go to `backend`, as its model is loaded there."""
    router.router.fleet.learned_resident(backend.name, "m:latest")


@pytest.mark.parametrize(
    "answer",
    [cut, BUSY, say(b"bad gateway", "502 Bad Gateway")],
    ids=["connection lost", "503", "502"],
)
async def test_another_server_answers(start: Start, serve: Serve, answer: Any) -> None:
    bad, good = await serve(answer), await serve()
    router = await start(bad, good, health=RARELY)
    await prefer(router, bad)
    reply = await chat(router.port)
    assert (reply.status, reply.body) == (200, b"hello")
    assert len(bad.exchanges) == 1
    assert sum(router.router.accounting.retries.values()) == 1
    assert router.in_flight == 0


async def test_a_dead_server_is_not_noticed_by_clients(start: Start, serve: Serve) -> None:
    dead, good = await serve(), await serve()
    router = await start(dead, good, health=RARELY)
    await prefer(router, dead)
    assert (await chat(router.port)).status == 200
    await dead.stop()
    for _ in range(20):
        assert (await chat(router.port)).body == b"hello"
    # By its third failure nothing goes there any more.
    assert router.router.accounting.retries["ConnectFailure"] <= 3


async def test_a_busy_answer_is_passed_on_when_everybody_is(start: Start, serve: Serve) -> None:
    one, two = await serve(BUSY), await serve(BUSY)
    router = await start(one, two, health=RARELY)
    reply = await chat(router.port)
    assert (reply.status, json.loads(reply.body)["error"][:11]) == (503, "server busy")
    assert len(one.exchanges) == len(two.exchanges) == 1


async def test_attempts_are_counted(start: Start, serve: Serve) -> None:
    servers = [await serve(cut) for _ in range(3)]
    router = await start(*servers, health=RARELY, retry={"attempts": 2})
    reply = await chat(router.port)
    assert reply.status == 503
    assert reply.fields["retry-after"] == "1"
    assert b"tried 2" in reply.body
    assert sum(len(server.exchanges) for server in servers) == 2


async def test_only_the_causes_listed_are_retried(start: Start, serve: Serve) -> None:
    busy, good = await serve(BUSY), await serve()
    router = await start(busy, good, health=RARELY, retry={"causes": ["ConnectFailure"]})
    await prefer(router, busy)
    assert (await chat(router.port)).status == 503
    assert not good.exchanges


async def test_an_error_of_the_model_is_not_retried_but_then_avoided(
    start: Start, serve: Serve
) -> None:
    broken = await serve(say(b'{"error":"load failed"}', "500 Internal Server Error"))
    good = await serve()
    router = await start(broken, good, health=RARELY)
    statuses = []
    for _ in range(30):
        await prefer(router, broken)
        statuses.append((await chat(router.port)).status)
    assert statuses == [500] * 3 + [200] * 27


async def test_a_server_that_refuses_at_once_attracts_little(start: Start, serve: Serve) -> None:
    busy, good = await serve(BUSY), await serve()
    router = await start(busy, good, health=RARELY)
    replies = [await chat(router.port) for _ in range(100)]
    assert {reply.status for reply in replies} == {200}
    assert len(busy.exchanges) <= 3


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "407 Proxy"])
async def test_a_server_that_refuses_the_router_is_not_the_clients_fault(
    start: Start, serve: Serve, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    denied = say(b'{"error":"wrong key"}', status, more="WWW-Authenticate: Bearer\r\n")
    router = await start(await serve(denied, headers={"Authorization": "Bearer s3cret"}))
    client = await Client.connect(router.port)
    for _ in range(2):
        client.ask(path="/v1/chat/completions")
        reply = await client.reply()
        assert (reply.status, reply.fields.get("www-authenticate")) == (502, None)
        told = json.loads(reply.body)["error"]
        assert told["message"].startswith("the server with 'm' refuses the router's credentials")
    assert "Correct its headers" in caplog.text
    assert "s3cret" not in caplog.text
    assert router.in_flight == 0


async def test_another_server_answers_where_one_refuses_the_router(
    start: Start, serve: Serve
) -> None:
    denying, good = await serve(say(b"{}", "401 Unauthorized")), await serve()
    router = await start(denying, good, health=RARELY)
    for _ in range(30):
        await prefer(router, denying)
        assert (await chat(router.port)).body == b"hello"
    assert len(denying.exchanges) == 3


async def test_a_foreign_origin_is_the_clients_own(start: Start, serve: Serve) -> None:
    forbidding = say(b"", "403 Forbidden")
    ours, theirs = await serve(forbidding), await serve(forbidding, headers={"X-Key": "k"})
    more = "Origin: http://evil.example\r\n"
    assert (await chat((await start(ours)).port, more=more)).status == 403
    assert (await chat((await start(theirs)).port, more=more)).status == 502


async def test_a_model_that_failed_is_tried_by_one_request_at_a_time(
    start: Start, serve: Serve
) -> None:
    go = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        if len(broken.exchanges) > 3:
            await go.wait()
        await say(b'{"error":"load failed"}', "500 Internal Server Error")(exchange)

    broken, good = await serve(answer), await serve()
    router = await start(broken, good, health=RARELY | {"breaker": {"cooldown": "300ms"}})
    for _ in range(3):
        await prefer(router, broken)
        await chat(router.port)
    fault = router.router.fleet.snapshot.servers
    (load,) = [one.load for one in fault if one.name == broken.name]
    clock = asyncio.get_running_loop().time
    assert load.fault("m:latest").state(clock()) is BreakerState.OPEN
    await eventually(lambda: load.fault("m:latest").state(clock()) is BreakerState.HALF_OPEN)
    await prefer(router, broken)
    trying = asyncio.create_task(chat(router.port))
    await eventually(lambda: len(broken.exchanges) == 4)
    assert (await chat(router.port)).body == b"hello"
    go.set()
    assert (await trying).status == 500
    assert len(broken.exchanges) == 4


async def test_a_dead_and_a_busy_server_fail_nobody_and_attract_nothing(
    start: Start, serve: Serve
) -> None:
    dead, busy, good = await serve(), await serve(BUSY), await serve()
    router = await start(dead, busy, good, health=RARELY)
    await dead.stop()
    statuses: list[int] = []

    async def one_after_another() -> None:
        client = await Client.connect(router.port)
        for _ in range(100):
            client.ask()
            statuses.append((await client.reply()).status)

    await asyncio.gather(*(one_after_another() for _ in range(12)))
    assert statuses == [200] * 1200
    assert len(busy.exchanges) <= 24  # 2 %


async def test_a_stale_connection_is_no_failure(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        if len(backend.exchanges) == 2:
            exchange.cut()
        else:
            await say(b"hello")(exchange)

    backend = await serve(answer)
    router = await start(backend, health=RARELY)
    for _ in range(3):
        assert (await chat(router.port)).status == 200
    assert backend.connections == 2
    assert not router.router.accounting.retries


async def test_no_answer_in_time_is_not_asked_for_elsewhere(start: Start, serve: Serve) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.left()

    slow, other = await serve(hang), await serve()
    router = await start(slow, other, health=RARELY, timeouts={"firstByte": "300ms"})
    await prefer(router, slow)
    reply = await chat(router.port)
    assert reply.status == 504
    assert not other.exchanges
    assert router.in_flight == 0


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "head",
    [STREAM_HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"],
    ids=["chunked", "length"],
)
async def test_a_broken_answer_is_truncated(
    start: Start, serve: Serve, head: bytes, clean: bool
) -> None:
    goes_on = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head + (chunk(b"half") if head is STREAM_HEAD else b"half"))
        await goes_on.wait()
        if clean:
            exchange.writer.close()
        else:
            exchange.cut()

    bad, other = await serve(answer), await serve()
    router = await start(bad, other, health=RARELY)
    await prefer(router, bad)
    client = await Client.connect(router.port)
    client.ask()
    waiting = asyncio.create_task(client.reply())
    await eventually(lambda: router.router.relay.exchanges and bad.exchanges)
    goes_on.set()
    reply = await waiting
    assert (reply.status, reply.body, reply.whole) == (200, b"half", False)
    assert not other.exchanges
    assert router.in_flight == 0


async def test_a_broken_answer_without_length_is_reset(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await asyncio.Event().wait()

    backend = await serve(answer)
    router = await start(backend, timeouts={"idle": "300ms"})
    client = await Client.connect(router.port)
    client.ask()
    assert await client.reader.readuntil(b"half")
    with pytest.raises(ConnectionError):
        await client.reader.read()


async def test_silence_within_an_answer_truncates_it(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + chunk(b"half"))
        await exchange.left()

    router = await start(await serve(answer), timeouts={"idle": "300ms"})
    reply = await chat(router.port)
    assert (reply.body, reply.whole) == (b"half", False)


@pytest.mark.parametrize("begun", [False, True], ids=["before the first byte", "streaming"])
@pytest.mark.parametrize("half", [False, True], ids=["reset", "half closed"])
async def test_a_client_that_leaves_stops_the_server(
    start: Start, serve: Serve, begun: bool, half: bool
) -> None:
    stopped = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        if begun:
            await exchange.send(STREAM_HEAD + chunk(b"one"))
        await exchange.left()
        stopped.set()

    backend = await serve(answer)
    router = await start(backend)
    client = await Client.connect(router.port)
    client.ask()
    await eventually(lambda: backend.exchanges)
    if begun:
        await client.reader.readuntil(b"one\r\n")
    if half:
        client.writer.write_eof()
    else:
        client.leave()
    async with asyncio.timeout(2):
        await stopped.wait()
    await eventually(lambda: router.in_flight == 0)
    assert router.router.relay.exchanges == 0


async def test_a_client_that_leaves_while_connecting(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend, health=RARELY)
    for _ in range(20):
        client = await Client.connect(router.port)
        client.ask()
        client.leave()
    await eventually(lambda: router.router.relay.exchanges == 0 and router.in_flight == 0)
    assert (await chat(router.port)).status == 200


LIES = {
    "no HTTP": b"hello\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + b"\r\n\r\n",
    "switched": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70000,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_what_cannot_be_read_in_one_way_is_not_passed_on(
    start: Start, serve: Serve, lie: bytes
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(lie)
        await exchange.left()

    router = await start(await serve(answer), health=RARELY)
    reply = await chat(router.port)
    assert reply.status == 503
    assert reply.body.startswith(b'{"error":')


async def test_a_malformed_chunk_ends_the_answer(start: Start, serve: Serve) -> None:
    goes_on = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + chunk(b"fine"))
        await goes_on.wait()
        await exchange.send(b"5;x\r\nwrong\r\n" + LAST_CHUNK)

    router = await start(await serve(answer), health=RARELY)
    client = await Client.connect(router.port)
    client.ask()
    assert await client.reader.readuntil(b"fine\r\n")
    goes_on.set()
    assert await client.closed() == b""


async def test_bytes_nobody_asked_for_are_nobodys_answer(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await say(b"hello")(exchange)
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")

    backend = await serve(answer)
    router = await start(backend, health=RARELY)
    client = await Client.connect(router.port)
    for _ in range(10):
        client.ask()
        assert (await client.reply()).body == b"hello"
    assert backend.connections > 1


async def test_a_server_comes_back_by_itself(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    await backend.stop()
    await eventually(lambda: router.router.fleet.snapshot.servers[0].state is State.OFFLINE)
    reply = await chat(router.port)
    assert (reply.status, reply.fields["retry-after"]) == (503, "1")
    assert json.loads(reply.body) == {"error": "the server with 'm' is not ready; try again in 1 s"}
    await backend.listen()
    await eventually(lambda: router.router.fleet.snapshot.servers[0].state is State.READY)
    assert (await chat(router.port)).status == 200


async def test_a_dead_server_under_streams_fails_only_what_had_begun(
    start: Start, serve: Serve
) -> None:
    release = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        begins = json.loads(exchange.body)["n"] % 2 == 0
        if not begins:
            await release.wait()
        await exchange.send(STREAM_HEAD + chunk(b"one"))
        await release.wait()
        await exchange.send(chunk(b"two") + LAST_CHUNK)

    resident = ["m:latest"]  # else one server alone may be asked, which loads it
    dying, *others = [await serve(answer, parallel=60, resident=resident) for _ in range(3)]
    router = await start(dying, *others, health=RARELY)
    bodies = [b'{"model":"m","n":%d}' % number for number in range(60)]
    streams = [asyncio.create_task(chat(router.port, body)) for body in bodies]
    await eventually(lambda: sum(len(one.exchanges) for one in (dying, *others)) == 60)
    await eventually(lambda: router.router.relay.exchanges == 60)
    begun = {
        number
        for number in (json.loads(one.body)["n"] for one in dying.exchanges)
        if number % 2 == 0
    }
    assert begun
    fronts = router.router._frontage.fronts
    await eventually(
        lambda: (
            sum(one.exchange is not None and one.exchange._call.status == 200 for one in fronts)
            == 30
        )
    )
    await dying.stop()
    release.set()
    replies = await asyncio.gather(*streams)
    failed = {number for number, reply in enumerate(replies) if reply.body != b"onetwo"}
    assert failed == begun
    assert {reply.status for reply in replies} == {200}


async def test_a_hanging_server_is_the_last_resort(start: Start, serve: Serve) -> None:
    hanging, good = await serve(HELLO), await serve(HELLO)
    router = await start(
        hanging, good, health={"interval": "50ms", "timeout": "100ms", "offlineAfter": "400ms"}
    )

    async def never(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    hanging._probed = never  # type: ignore[method-assign]
    (server,) = [one for one in router.router.fleet.snapshot.servers if one.name == hanging.name]
    await eventually(lambda: (router.router.fleet.get(server.name) or server).missed)
    before = len(hanging.exchanges)
    for _ in range(10):
        assert (await chat(router.port, CHAT)).status == 200
    assert len(hanging.exchanges) == before
    await eventually(
        lambda: (router.router.fleet.get(server.name) or server).state is State.OFFLINE
    )
