"""Requests that are malformed, too large or too slow: answered, and the connection closed."""

import asyncio

import pytest

from ollama_fleet.router import front
from tests.component.router.conftest import Serve, Start
from tests.component.router.peers import CHAT, HELLO, Client, chat, chunk, eventually, get

POST = b"POST /api/chat HTTP/1.1\r\n"
HOST = b"Host: fleet\r\n"
TAIL = b"GET /smuggled HTTP/1.1\r\nHost: fleet\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(CHAT)

MALFORMED = {
    "length and chunked": POST + HOST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + CHAT,
    "two lengths": POST + HOST + LENGTH + b"Content-Length: 0\r\n\r\n" + CHAT,
    "two hosts": POST + HOST + HOST + LENGTH + b"\r\n" + CHAT,
    "no host": POST + LENGTH + b"\r\n" + CHAT,
    "bare LF everywhere": b"POST /api/chat HTTP/1.1\nHost: fleet\nContent-Length: 2\n\n{}",
    "bare LF in the head": POST + b"Host: fleet\nA: b\r\n\r\n",
    "bare CR in the head": POST + b"Host: fleet\rA: b\r\n\r\n",
    "folded": POST + HOST + b"A: b\r\n c\r\n\r\n",
    "space before the colon": POST + HOST + b"Content-Length : 2\r\n\r\n{}",
    "gzip": POST + HOST + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunked on 1.0": b"POST /api/chat HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk extension": POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\n\r\n",
    "bare LF in chunks": POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "chunk too long": POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "trailer": POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "absolute target": b"POST http://fleet/api/chat HTTP/1.1\r\n" + HOST + b"\r\n",
    "control byte": POST + HOST + b"A: \x01\r\n\r\n",
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed(start: Start, serve: Serve, message: bytes) -> None:
    backend = await serve()
    router = await start(backend)
    client = await Client.connect(router.port)
    client.send(message + TAIL)
    reply = await client.reply()
    assert reply.status == 400
    assert reply.fields["connection"] == "close"
    assert reply.body.startswith(b'{"error":"')
    assert await client.closed() == b""
    assert not backend.exchanges


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (POST + HOST + b"Expect: magic\r\n\r\n", 417),
        (b"POST / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (POST + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
        (POST + HOST + b"A: " + b"x" * 2000 + b"\r\n\r\n", 431),
        (POST + HOST + b"A: " + b"x" * 2000, 431),
        (POST + HOST + b"Content-Length: 5001\r\n\r\n", 413),
        (POST + HOST + b"Content-Length: 5001\r\nExpect: 100-continue\r\n\r\n", 413),
        (POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 3000) * 2, 413),
        (POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n1389\r\n", 413),
    ],
)
async def test_other_refusals(start: Start, serve: Serve, message: bytes, status: int) -> None:
    backend = await serve()
    router = await start(backend, limits={"headerBytes": "1Ki", "bodyBytes": "5000"})
    client = await Client.connect(router.port)
    client.send(message)
    reply = await client.reply()
    assert (reply.status, reply.fields["connection"]) == (status, "close")
    assert await client.closed() == b""
    assert not backend.exchanges


async def test_the_largest_body_and_head_that_fit(start: Start, serve: Serve) -> None:
    router = await start(await serve(), limits={"headerBytes": "1Ki", "bodyBytes": "5000"})
    client = await Client.connect(router.port)
    body = CHAT[:-1] + b" " * (5000 - len(CHAT)) + b"}"
    head = POST + HOST + b"Content-Length: 5000\r\nA: "
    client.send(head + b"x" * (1024 - len(head) - 4) + b"\r\n\r\n" + body)
    assert (await client.reply()).status == 200


@pytest.mark.parametrize(
    ("limit", "sent"),
    [
        ("HEAD_SECONDS", POST + HOST),
        ("BODY_SECONDS", POST + HOST + LENGTH + b"\r\n{"),
        ("BODY_SECONDS", POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"),
    ],
)
async def test_too_slow(
    start: Start, serve: Serve, monkeypatch: pytest.MonkeyPatch, limit: str, sent: bytes
) -> None:
    monkeypatch.setattr(front, limit, 0.1)
    router = await start(await serve())
    client = await Client.connect(router.port)
    client.send(sent)
    assert (await client.reply()).status == 408
    assert await client.closed() == b""


async def test_an_idle_connection_is_closed_without_a_word(
    start: Start, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "IDLE_SECONDS", 0.1)
    router = await start(await serve())
    client = await Client.connect(router.port)
    assert await client.closed() == b""


async def test_a_client_that_goes_on_sending_still_gets_the_answer(
    start: Start, serve: Serve
) -> None:
    router = await start(await serve(), limits={"bodyBytes": "5000"})
    client = await Client.connect(router.port)
    client.send(POST + HOST + b"Content-Length: 800000\r\n\r\n" + b"x" * 800_000)
    assert (await client.reply()).status == 413
    assert await client.closed() == b""


async def test_expect_is_answered_here(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    client = await Client.connect(router.port)
    client.send(POST + HOST + LENGTH + b"Expect: 100-continue\r\n\r\n")
    assert (await client.reply(has_body=False)).status == 100
    assert not backend.exchanges
    client.send(CHAT)
    assert (await client.reply()).body == b"hello"
    assert backend.exchanges[0].field("expect") is None


async def test_an_offer_of_h2c_is_ignored(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    client = await Client.connect(router.port)
    more = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    for _ in range(2):
        client.ask(more=more)
        assert (await client.reply()).body == b"hello"
    assert backend.exchanges[0].field("upgrade") is None
    assert backend.exchanges[0].field("http2-settings") is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/chat", 405), ("GET", "/nope", 404), ("GET", "/api/ps", 403)],
)
async def test_refusals_of_small_requests_keep_the_connection(
    start: Start, serve: Serve, method: str, path: str, status: int
) -> None:
    router = await start(await serve())
    client = await Client.connect(router.port)
    for _ in range(2):
        client.send(
            f"{method} {path} HTTP/1.1\r\nHost: f\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        )
        reply = await client.reply()
        assert (reply.status, "connection" in reply.fields) == (status, False)
    assert reply.fields.get("allow") == ("POST" if status == 405 else None)


async def test_a_pull_is_told_who_installs_models(start: Start, serve: Serve) -> None:
    router = await start(await serve())
    client = await Client.connect(router.port)
    client.ask(b'{"model":"llama3.2"}', "/api/pull")
    reply = await client.reply()
    assert reply.status == 403
    assert b"ModelDistribution" in reply.body


async def test_too_many_connections(start: Start, serve: Serve) -> None:
    router = await start(await serve(), limits={"connections": 2})
    clients = [await Client.connect(router.port) for _ in range(2)]
    await eventually(lambda: len(router.router._frontage.fronts) == 2)
    one_too_many = await Client.connect(router.port)
    assert (await one_too_many.reply()).status == 503
    assert await one_too_many.closed() == b""
    clients[0].ask()
    assert (await clients[0].reply()).status == 200
    clients[0].leave()
    await eventually(lambda: len(router.router._frontage.fronts) == 1)
    assert (await get(router.port, "/")).status == 200


async def test_random_bytes_harm_nobody(start: Start, serve: Serve) -> None:
    from random import Random

    random = Random(7)
    router = await start(await serve(HELLO))
    good = POST + HOST + LENGTH + b"\r\n" + CHAT

    async def attack() -> None:
        message = bytearray(good * 3)
        for _ in range(random.randint(1, 6)):
            message[random.randrange(len(message))] = random.randrange(256)
        client = await Client.connect(router.port)
        client.send(bytes(message))
        client.writer.write_eof()
        await client.closed()

    for _ in range(40):
        await asyncio.gather(*(attack() for _ in range(5)))
    await eventually(lambda: router.in_flight == 0)
    assert router.router.relay.exchanges == 0
    client = await Client.connect(router.port)
    client.ask()
    assert (await client.reply()).status == 200


async def test_a_compressed_body_is_refused(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    reply = await chat(router.port, more="Content-Encoding: gzip\r\n")
    assert reply.status == 415
    assert (await chat(router.port, more="Content-Encoding: identity\r\n")).status == 200
    assert len(backend.exchanges) == 1


async def test_whoever_takes_no_answers_is_given_no_more(start: Start, serve: Serve) -> None:
    """Answers that nobody takes would pile up here: of a listing each takes far more than it costs
    to ask for."""
    backend = await serve(models=[f"{'m' * 60}:{number}" for number in range(1000)])
    router = await start(backend)
    client = await Client.connect(router.port, limit=1 << 22)
    one = b"GET /api/tags HTTP/1.1\r\nHost: f\r\n\r\n"
    client.send(one * 500)
    await eventually(lambda: client.writer.transport.get_write_buffer_size() == 0)
    (front_,) = router.router._frontage.fronts
    await eventually(lambda: front_.writing_paused)
    size = len((await get(router.port, "/api/tags")).body)
    assert front_._transport.get_write_buffer_size() < 3 * size
    for _ in range(500):  # nothing is lost
        assert (await client.reply()).status == 200
    client.send(one)
    assert (await client.reply()).status == 200


async def test_a_body_comes_at_some_rate(
    start: Start, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little at a time: a connection for ever would cost next to nothing."""
    monkeypatch.setattr(front, "BODY_SECONDS", 0.5)
    router = await start(await serve())
    client = await Client.connect(router.port)
    client.send(POST + HOST + b"Content-Length: 100000\r\n\r\n{")

    async def dribble() -> None:
        while True:
            client.send(b" ")
            await asyncio.sleep(0.05)

    task = asyncio.create_task(dribble())
    assert (await client.reply()).status == 408
    task.cancel()


async def test_tiny_chunks_take_no_more_than_they_hold(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    client = await Client.connect(router.port)
    body = CHAT[:-1] + b" " * 200_000
    client.send(POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    for begin in range(0, len(body), 10_000):
        piece = body[begin : begin + 10_000]
        client.send(b"".join(chunk(piece[at : at + 2]) for at in range(0, len(piece), 2)))
        await client.writer.drain()
    (front_,) = router.router._frontage.fronts
    await eventually(lambda: front_._got == len(body))
    assert len(front_._parts) < 100
    client.send(chunk(b"}") + b"0\r\n\r\n")
    assert (await client.reply()).status == 200
    assert backend.exchanges[0].body == body + b"}"
