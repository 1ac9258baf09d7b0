"""A server gone bad: what it answers harms its own requests alone."""

import json
from typing import Any

import pytest

from tests.component.router.conftest import Serve, Start
from tests.component.router.peers import (
    CHAT,
    HELLO,
    LAST_CHUNK,
    Client,
    Exchange,
    chat,
    chunk,
    eventually,
    get,
    say,
)

SPLIT = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
DEEP = b'{"models":[{"name":"m:latest","x":' + b"[" * 500 + b"]" * 500 + b"}]}"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize(
    "body",
    [
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk(SPLIT) + LAST_CHUNK,
        b"Content-Length: %d\r\n\r\n" % len(SPLIT) + SPLIT,
    ],
    ids=["chunks", "length"],
)
async def test_what_has_no_body_brings_none(
    start: Start, serve: Serve, status: str, body: bytes
) -> None:
    """Clients read no body there: its bytes would be the answer to their next request, or, with a
    proxy in front, to somebody else's."""

    async def bad(exchange: Exchange) -> None:
        await exchange.send(f"HTTP/1.1 {status}\r\n".encode() + body)

    backend = await serve(bad)
    router = await start(backend)
    client = await Client.connect(router.port)
    client.ask()
    first = await client.reply()
    assert first.status == 503
    backend.answer = HELLO
    await eventually(lambda: not router.in_flight)
    client.ask()
    assert b"smuggled" not in (await client.reply()).body


async def test_nobody_is_sent_elsewhere(start: Start, serve: Serve) -> None:
    """Clients would follow, with their keys."""
    bad = say(b"", "307 Temporary Redirect", more="Location: http://127.0.0.1:9/api/chat\r\n")
    router = await start(await serve(bad))
    reply = await chat(router.port)
    assert (reply.status, "location" in reply.fields) == (502, False)
    assert b"points elsewhere" in reply.body


async def test_another_server_is_asked_instead(start: Start, serve: Serve) -> None:
    bad = say(b"", "301 Moved Permanently", more="Location: http://127.0.0.1:9/\r\n")
    first, second = await serve(bad), await serve()
    router = await start(first, second)
    for _ in range(4):
        assert (await chat(router.port)).status == 200


async def test_what_is_about_the_origin_stays_here(start: Start, serve: Serve) -> None:
    more = 'Alt-Svc: h2="evil:443"\r\nClear-Site-Data: "*"\r\nSet-Cookie: a=b\r\nX-A: b\r\n'
    router = await start(await serve(say(b"{}", more=more)))
    fields = (await chat(router.port)).fields
    assert fields.keys() & {"alt-svc", "clear-site-data", "set-cookie", "x-a"} == {"x-a"}


@pytest.mark.parametrize(
    "told",
    [
        b'{"models":[{"name":"m:latest","size":1' + b"0" * 40 + b"}]}",
        b'{"models":[{"name":"m:latest","digest":"\\ud800"}]}',
        DEEP,
        b"[" * 100_000,
        b'{"models":[{"name":"m:latest","x":"' + b"x" * (9 << 20) + b'"}]}',
    ],
    ids=["a number beyond 64 bits", "half a character", "deep", "deeper", "endless"],
)
async def test_the_listings_of_the_others_stay(
    start: Start, serve: Serve, monkeypatch: pytest.MonkeyPatch, told: bytes
) -> None:
    good, bad = await serve(models=["n:latest"]), await serve()
    probed = 0

    async def answers(exchange: Exchange) -> None:
        nonlocal probed
        probed += 1
        path = exchange.head.split(b" ")[1]
        body = told if path == b"/api/tags" else b'{"version":"0.1.2","models":[]}'
        await say(body)(exchange)

    monkeypatch.setattr(bad, "_probed", answers)
    router = await start(good, bad)
    for path in ("/api/tags", "/v1/models", "/api/version"):
        assert (await get(router.port, path)).status == 200
    assert "n:latest" in names(json.loads((await get(router.port, "/api/tags")).body))
    for path in ("/debug/state", "/metrics", "/api/ps"):
        assert (await get(router.operators_port, path)).status in (200, 404)
    before = probed
    await eventually(lambda: probed > before + 3)  # it is asked again


def names(told: Any) -> list[str]:
    return [one["name"] for one in told["models"]]


async def test_a_compressed_answer_is_not_asked_for(start: Start, serve: Serve) -> None:
    """It would not tell how many tokens it took."""
    backend = await serve()
    router = await start(backend)
    for _ in range(2):  # the second time the line is known
        assert (await chat(router.port, more="Accept-Encoding: gzip\r\n")).status == 200
    assert all(one.field("accept-encoding") is None for one in backend.exchanges)


async def test_fields_that_name_another_path_stay_here(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    more = "X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /api/delete\r\nX-Real-IP: ::1\r\n"
    assert (await chat(router.port, CHAT, more=more)).status == 200
    lowered = backend.exchanges[0].head.lower()
    assert b"override" not in lowered
    assert b"original-url" not in lowered
    assert b"real-ip" not in lowered
