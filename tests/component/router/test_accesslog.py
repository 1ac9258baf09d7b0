"""The access log: one line for each call, with nothing in it that is nobody's business."""

import asyncio
import json
from threading import Event
from typing import Any

import pytest

from ollama_fleet.router import accesslog
from ollama_fleet.router.accesslog import AccessLog
from ollama_fleet.router.config import parse
from tests.component.router.conftest import QUICK, Serve, Start
from tests.component.router.peers import (
    CHAT,
    LAST_CHUNK,
    STREAM_HEAD,
    Client,
    Exchange,
    chat,
    chunk,
    eventually,
    say,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
USAGE = b'{"done":true,"prompt_eval_count":26,"eval_count":290}\n'
SECRETS = (
    "Authorization: Bearer k3y-of-somebody\r\nCookie: c00kie=1\r\nX-Api-Key: k3y-of-somebody\r\n"
)


class Written:
    """What has been written, line by line."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data += data

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.data.splitlines()]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """What a router writes, in place of standard output."""
    lines = Written()
    monkeypatch.setattr(accesslog, "to_stdout", lines)
    return lines


async def test_a_line_tells_what_came_of_a_call(
    start: Start, serve: Serve, written: Written
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + chunk(b"one") + chunk(USAGE) + LAST_CHUNK)

    busy = await serve(say(b"{}", "503 Service Unavailable"), resident=["m:latest"])
    backend = await serve(answer)
    router = await start(busy, backend, accessLog=True)
    body = b'{"model":"M","messages":[{"role":"user","content":"s3cret-question"}]}'
    reply = await chat(router.port, body, more=f"{SECRETS}traceparent: {PARENT}\r\n")
    assert reply.status == 200
    await eventually(lambda: written.lines)
    (line,) = written.lines
    assert 0 <= line.pop("firstByteSeconds") <= line.pop("seconds") < 10
    assert line.pop("time").endswith("Z")
    assert line == {
        "client": "",
        "peer": "127.0.0.1",
        "method": "POST",
        "path": "/api/chat",
        "model": "M",
        "resolved": "m:latest",
        "server": backend.name,
        "status": 200,
        "reason": "",
        "attempts": 2,
        "decision": "OnlyOne",
        "queueSeconds": 0.0,
        "tokensIn": 26,
        "tokensOut": 290,
        "bytesIn": len(body),
        "bytesOut": len(chunk(b"one") + chunk(USAGE) + LAST_CHUNK),
        "traceId": TRACE,
    }
    for secret in (b"s3cret", b"k3y-of", b"c00kie"):
        assert secret not in written.data


async def test_what_is_refused_or_left_has_a_line_of_the_same_keys(
    start: Start, serve: Serve, written: Written
) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.left()

    router = await start(await serve(never), accessLog=True)
    assert (await chat(router.port, b'{"model":"nope"}')).status == 404
    assert (await chat(router.port, path="/api/pull?key=s3cret")).status == 403
    leaver = await Client.connect(router.port)
    leaver.ask()
    await eventually(lambda: router.in_flight)
    leaver.leave()
    await eventually(lambda: len(written.lines) == 3)
    unknown, forbidden, left = written.lines
    assert (unknown["model"], unknown["status"], unknown["reason"]) == ("nope", 404, "NoModel")
    assert (forbidden["path"], forbidden["reason"]) == ("/api/pull", "Forbidden")
    assert (left["status"], left["reason"], left["firstByteSeconds"]) == (0, "ClientLeft", None)
    assert {one["peer"] for one in written.lines} == {"127.0.0.1"}
    assert list(unknown) == list(forbidden) == list(left)
    assert b"s3cret" not in written.data


async def test_it_is_off_unless_asked_for_and_follows_the_settings(
    start: Start, serve: Serve, written: Written
) -> None:
    backend = await serve()
    router = await start(backend)
    await chat(router.port)
    before = len(router.router.relay._listeners)
    spec = {**QUICK, "backends": [{"url": backend.url}]}
    router.router.configure(parse({**spec, "accessLog": True}))
    await chat(router.port, CHAT + b" ")
    router.router.configure(parse(spec))
    await chat(router.port)
    await eventually(lambda: written.lines)
    assert [line["bytesIn"] for line in written.lines] == [len(CHAT) + 1]
    assert len(router.router.relay._listeners) == before


async def test_a_reader_that_is_stuck_stops_nobody(
    start: Start, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, go = Event(), Event()

    def write(data: bytes) -> None:
        stuck.set()
        go.wait(10)

    monkeypatch.setattr(accesslog, "MAX_LINES", 3)
    router = await start(await serve())
    log = AccessLog(asyncio.get_running_loop().time, write)
    router.router.relay.on_over(log.over)
    await chat(router.port)
    await eventually(stuck.is_set)
    for _ in range(5):
        assert (await chat(router.port)).status == 200
    assert log.lost == 2
    go.set()
    log.close()


async def test_trace_context_goes_on_unchanged(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    await chat(router.port, more=f"Traceparent: {PARENT}\r\nTracestate: a=1,b=2\r\n")
    (exchange,) = backend.exchanges
    assert exchange.field("traceparent") == PARENT.encode()
    assert exchange.field("tracestate") == b"a=1,b=2"
    await chat(router.port)
    assert backend.exchanges[1].field("traceparent") is None
