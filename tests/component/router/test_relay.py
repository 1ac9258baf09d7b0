"""What reaches a server and what comes back."""

import asyncio
import json

import pytest

from tests.component.router.conftest import Serve, Start
from tests.component.router.peers import (
    CHAT,
    LAST_CHUNK,
    STREAM_HEAD,
    Client,
    Exchange,
    chat,
    chunk,
    eventually,
    get,
    say,
)


async def test_a_server_gets_the_body_unchanged_and_a_head_of_its_own(
    start: Start, serve: Serve
) -> None:
    backend = await serve(headers={"X-Backend-Key": "b", "User-Agent": "own"})
    router = await start(backend)
    more = (
        "Authorization: Bearer tenant\r\nX-Api-Key: k\r\nCookie: c=1\r\nUser-Agent: ua\r\n"
        "x-BACKEND-key: forged\r\n"
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        "Proxy-Authorization: p\r\nX-Kept: yes \r\nContent-Type: application/json\r\n"
    )
    reply = await chat(router.port, path="/%61pi/chat?debug=1", more=more)
    assert (reply.status, reply.body) == (200, b"hello")
    (seen,) = backend.exchanges
    assert seen.head.startswith(b"POST /api/chat HTTP/1.1\r\n")
    assert seen.body == CHAT
    assert seen.field("host") == backend.name.encode()
    assert seen.field("x-backend-key") == b"b"
    assert seen.field("user-agent") == b"own"
    assert seen.field("x-kept") == b"yes"
    assert seen.field("content-type") == b"application/json"
    for stripped in (
        "authorization", "x-api-key", "cookie", "connection", "x-hop", "keep-alive", "te",
        "proxy-authorization", "transfer-encoding",
    ):  # fmt: skip
        assert seen.field(stripped) is None, stripped


async def test_a_client_gets_the_answer_without_hop_by_hop_fields(
    start: Start, serve: Serve
) -> None:
    more = (
        "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nServer: x\r\nSet-Cookie: a=b\r\n"
        "X-Kept: yes\r\nX-Ollama-Fleet-Server: forged\r\n"
    )
    router = await start(await serve(say(b"{}", more=more)))
    reply = await chat(router.port)
    assert reply.fields == {
        "content-type": "application/json",
        "content-length": "2",
        "x-kept": "yes",
    }


async def test_chunks_pass_one_by_one_as_they_come(start: Start, serve: Serve) -> None:
    step = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + chunk(b"one"))
        await step.wait()
        await exchange.send(chunk(b"two") + LAST_CHUNK)

    router = await start(await serve(answer))
    client = await Client.connect(router.port)
    client.ask()
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert await client.reader.readexactly(8) == chunk(b"one")
    step.set()
    assert await client.reader.readexactly(8 + 5) == chunk(b"two") + LAST_CHUNK


async def test_chunks_cut_anywhere_are_the_same_to_the_client(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        for byte in STREAM_HEAD + chunk(b"hello") + chunk(b"x" * 300) + LAST_CHUNK:
            await exchange.send(bytes([byte]))

    router = await start(await serve(answer))
    client = await Client.connect(router.port)
    for _ in range(2):
        client.ask()
        reply = await client.reply()
        assert (reply.body, reply.whole) == (b"hello" + b"x" * 300, True)


async def test_an_http_1_0_client_gets_no_chunks(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + chunk(b"one") + chunk(b"two") + LAST_CHUNK)

    router = await start(await serve(answer))
    client = await Client.connect(router.port)
    client.send(b"POST /api/chat HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(CHAT) + CHAT)
    reply = await client.reply()
    assert "transfer-encoding" not in reply.fields
    assert reply.fields["connection"] == "close"
    assert reply.body == b"onetwo"


async def test_an_answer_that_ends_with_the_connection(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello")
        exchange.writer.close()

    router = await start(await serve(answer))
    reply = await chat(router.port)
    assert (reply.body, reply.fields["connection"]) == (b"hello", "close")


async def test_interim_answers_are_not_passed_on(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        await say(b"hello")(exchange)

    router = await start(await serve(answer))
    assert (await chat(router.port)).body == b"hello"


async def test_a_chunked_request_reaches_the_server_with_a_length(
    start: Start, serve: Serve
) -> None:
    backend = await serve()
    router = await start(backend)
    client = await Client.connect(router.port)
    client.send(b"POST /api/chat HTTP/1.1\r\nHost: f\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (CHAT[:10], CHAT[10:]):
        client.send(chunk(piece))
    client.send(LAST_CHUNK)
    assert (await client.reply()).body == b"hello"
    assert backend.exchanges[0].body == CHAT
    assert backend.exchanges[0].field("content-length") == str(len(CHAT)).encode()


async def test_a_large_body_arrives_whole(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    body = json.dumps({"model": "m", "images": ["x" * 5_000_000]}).encode()
    assert (await chat(router.port, body)).status == 200
    assert backend.exchanges[0].body == body


async def test_connections_to_servers_are_reused(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    for _ in range(5):
        assert (await chat(router.port)).status == 200
    assert backend.connections == 1


async def test_pipelined_requests_are_answered_in_order(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await say(json.loads(exchange.body)["n"].encode())(exchange)

    router = await start(await serve(answer))
    client = await Client.connect(router.port)
    for number in range(20):
        client.ask(json.dumps({"model": "m", "n": str(number)}).encode())
        client.send(b"GET / HTTP/1.1\r\nHost: f\r\n\r\n")
    for number in range(20):
        assert (await client.reply()).body == str(number).encode()
        assert (await client.reply()).body == b"Ollama is running"


async def test_a_slow_client_slows_the_server_and_loses_nothing(start: Start, serve: Serve) -> None:
    sent = 0
    piece, pieces = chunk(b"x" * 65536), 400

    async def answer(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(STREAM_HEAD)
        for _ in range(pieces):
            await exchange.send(piece)
            sent += 1
        await exchange.send(LAST_CHUNK)

    router = await start(await serve(answer))
    client = await Client.connect(router.port, limit=65536)
    client.ask()
    await client.reader.readuntil(b"\r\n\r\n")
    (exchange,) = [front.exchange for front in router.router._frontage.fronts]
    assert exchange is not None
    await eventually(lambda: exchange._upstream is not None and exchange._upstream._paused)
    assert sent < pieces // 2
    body = await client._chunks()
    assert len(body) == 65536 * pieces
    client.ask(path="/api/show")


async def test_the_decision_is_explained_on_request(start: Start, serve: Serve) -> None:
    backend = await serve(resident=["m:latest"])
    router = await start(backend)
    assert "x-ollama-fleet-server" not in (await chat(router.port)).fields
    reply = await chat(router.port, more="X-Ollama-Fleet-Decision: 1\r\n")
    assert reply.fields["x-ollama-fleet-server"] == backend.name
    told = reply.fields["x-ollama-fleet-decision"]
    assert "(Resident); 1 have the model" in told
    assert told.endswith("; attempt 1, queued 0.000 s")
    assert backend.exchanges[-1].field("x-ollama-fleet-decision") is None


async def test_the_model_goes_to_the_server_that_has_it(start: Start, serve: Serve) -> None:
    one = await serve(say(b"one"), models=["a:latest"])
    two = await serve(say(b"two"), models=["team/b:1b"])
    router = await start(one, two)
    for name, body in (("a", b"one"), ("A:Latest", b"one"), ("Team/B:1b", b"two")):
        asked = json.dumps({"model": name}).encode()
        assert (await chat(router.port, asked)).body == body
    shown = await chat(router.port, b'{"model":"","name":"team/b:1b"}', "/api/show")
    assert shown.body == b"two"


async def test_the_fleet_answers_as_one_ollama(start: Start, serve: Serve) -> None:
    one = await serve(models=["a:latest", "team/b:1b"], version="0.36.0")
    two = await serve(models=["a:latest", "c:2b"])
    router = await start(one, two)
    tags = json.loads((await get(router.port, "/api/tags")).body)["models"]
    assert sorted(model["name"] for model in tags) == ["a:latest", "c:2b", "team/b:1b"]
    assert {model["details"]["parent_model"] for model in tags} == {""}
    listed = json.loads((await get(router.port, "/v1/models")).body)["data"]
    assert sorted(model["id"] for model in listed) == ["a:latest", "c:2b", "team/b:1b"]
    found = json.loads((await get(router.port, "/v1/models/team%2Fb:1b")).body)
    assert (found["id"], found["owned_by"], found["created"]) == ("team/b:1b", "team", 1772366400)
    assert (await get(router.port, "/v1/models/nope")).status == 404
    assert json.loads((await get(router.port, "/api/version")).body) == {"version": "0.35.1"}
    running = await get(router.port, "/")
    assert (running.body, running.fields["content-length"]) == (b"Ollama is running", "17")
    assert (await get(router.port, "/", "HEAD")).fields["content-length"] == "17"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"error": "model 'x' not found"}),
        ("/api/embed", {"error": 'model "x" not found, try pulling it first'}),
        (
            "/v1/chat/completions",
            {
                "error": {
                    "message": "model 'x' not found",
                    "type": "not_found_error",
                    "param": None,
                    "code": None,
                }
            },
        ),
        (
            "/v1/messages",
            {
                "type": "error",
                "error": {"type": "not_found_error", "message": "model 'x' not found"},
            },
        ),
    ],
)
async def test_an_unknown_model(start: Start, serve: Serve, path: str, body: object) -> None:
    router = await start(await serve())
    reply = await chat(router.port, b'{"model":"x"}', path)
    assert (reply.status, json.loads(reply.body)) == (404, body)
    assert "connection" not in reply.fields


@pytest.mark.parametrize(
    ("model", "status"),
    [("m-cloud", 403), ("m:cloud", 403), ("evil.host/x/y", 400), ("localhost:1/x/y", 400)],
)
async def test_names_that_lead_elsewhere(
    start: Start, serve: Serve, model: str, status: int
) -> None:
    backend = await serve(models=["m-cloud:latest", "m:cloud"])
    router = await start(backend)
    assert (await chat(router.port, json.dumps({"model": model}).encode())).status == status
    assert not backend.exchanges


async def test_apis_that_are_switched_off(start: Start, serve: Serve) -> None:
    router = await start(await serve(), apis=["OpenAI"])
    assert (await chat(router.port)).status == 404
    assert (await chat(router.port, path="/v1/messages")).status == 404
    assert (await chat(router.port, path="/v1/chat/completions")).status == 200
    assert (await get(router.port, "/")).status == 200
