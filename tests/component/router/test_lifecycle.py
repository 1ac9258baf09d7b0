"""Readiness, metrics, changed servers, and the end."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from ollama_fleet.router.config import parse
from ollama_fleet.router.snapshot import State
from tests.component.router.conftest import QUICK, Running, Serve, Start
from tests.component.router.peers import (
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

USAGE = b'{"done":true,"prompt_eval_count":26,"eval_count":290}\n'


class Stream:
    """Answers with a stream that goes on until the test lets it end."""

    def __init__(self) -> None:
        self.end = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + chunk(b"one"))
        await self.end.wait()
        await exchange.send(chunk(USAGE) + LAST_CHUNK)


async def ready(router: Running) -> int:
    return (await get(router.operators_port, "/readyz")).status


async def test_a_drain_lets_streams_finish(start: Start, serve: Serve) -> None:
    stream = Stream()
    router = await start(await serve(stream))
    streaming, idle = await Client.connect(router.port), await Client.connect(router.port)
    streaming.ask()
    await streaming.reader.readuntil(b"one\r\n")
    idle.send(b"GET / HTTP/1.1\r\nHost: f\r\n\r\n")
    assert "connection" not in (await idle.reply()).fields
    assert await ready(router) == 200
    draining = asyncio.create_task(router.router.drain(pause=0.3, seconds=10))
    while await ready(router) == 200:
        pass
    # For a moment more, those who have not noticed are served, and told to go.
    late = await get(router.port, "/")
    assert (late.status, late.fields.get("connection")) == (200, None)
    assert await idle.closed() == b""
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(router.port)
    assert not draining.done()
    stream.end.set()
    assert await streaming.closed() == chunk(USAGE) + LAST_CHUNK
    assert await draining == 0


async def test_answers_during_a_drain_close_the_connection(start: Start, serve: Serve) -> None:
    go = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await go.wait()
        await say(b"hello")(exchange)

    backend = await serve(answer)
    router = await start(backend)
    client = await Client.connect(router.port)
    client.ask()
    await eventually(lambda: backend.exchanges)
    draining = asyncio.create_task(router.router.drain(pause=0, seconds=10))
    await eventually(lambda: router.router._frontage.draining)
    go.set()
    reply = await client.reply()
    assert (reply.body, reply.fields["connection"]) == (b"hello", "close")
    assert await draining == 0


async def test_a_drain_ends_at_its_deadline(start: Start, serve: Serve) -> None:
    router = await start(await serve(Stream()))
    client = await Client.connect(router.port)
    client.ask()
    await client.reader.readuntil(b"one\r\n")
    assert await router.router.drain(pause=0, seconds=0.2) == 1
    assert await client.closed() == b""


async def test_readiness_is_told_on_both_ports_and_metrics_on_one(
    start: Start, serve: Serve
) -> None:
    router = await start(await serve())
    for port in (router.port, router.operators_port):
        assert (await get(port, "/healthz")).status == 200
        assert (await get(port, "/readyz")).status == 200
    assert (await get(router.port, "/metrics")).status == 404
    assert (await get(router.operators_port, "/api/tags")).status == 404
    router.router.waiting_for = "the Router"
    reply = await get(router.port, "/readyz")
    assert (reply.status, reply.body) == (503, b"waiting for the Router\n")


async def test_what_is_counted(start: Start, serve: Serve) -> None:
    stream = Stream()
    backend = await serve(stream)
    router = await start(backend)
    client = await Client.connect(router.port)
    client.ask()
    await client.reader.readuntil(b"one\r\n")

    async def metrics() -> str:
        reply = await get(router.operators_port, "/metrics")
        assert reply.fields["content-type"].startswith("text/plain")
        return reply.body.decode()

    in_flight = f'ollama_fleet_router_in_flight{{model="m:latest",server="{backend.name}"}}'
    assert f"{in_flight} 1.0" in await metrics()
    stream.end.set()
    await client.reader.readuntil(LAST_CHUNK)
    await eventually(lambda: router.in_flight == 0)
    await chat(router.port, b'{"model":"nope"}')
    told = await metrics()
    assert in_flight not in told
    model, server = 'gen_ai_request_model="m:latest"', f'server="{backend.name}"'
    for line in (
        f"gen_ai_server_request_duration_seconds_count{{{model},{server}}} 1",
        f"gen_ai_server_time_to_first_token_seconds_count{{{model},{server}}} 1",
        f'gen_ai_server_time_to_first_token_seconds_bucket{{{model},{server},le="1200.0"}} 1',
        f"gen_ai_server_time_per_output_token_seconds_count{{{model},{server}}} 1",
        f'gen_ai_client_token_usage_sum{{{model},gen_ai_token_type="input",{server}}} 26.0',
        f'gen_ai_client_token_usage_sum{{{model},gen_ai_token_type="output",{server}}} 290.0',
        f'ollama_fleet_router_decisions_total{{reason="OnlyOne",{server}}} 1.0',
        'ollama_fleet_router_rejected_total{reason="NoModel"} 1.0',
        f'ollama_fleet_router_requests_total{{path="/api/chat",{server},status="200"}} 1.0',
        f'ollama_fleet_router_breaker_state{{server="{backend.name}"}} 0.0',
    ):
        assert line in told, line


async def test_servers_come_and_go_without_a_failed_request(start: Start, serve: Serve) -> None:
    old, new = await serve(say(b"old")), await serve(say(b"new"))
    router = await start(old)
    assert (await chat(router.port)).body == b"old"
    before = router.router.settings.backends
    settings = parse({**QUICK, "backends": [{"url": new.url}]})
    router.router.configure(settings)
    router.router.fleet.want((*before, *settings.backends))
    await eventually(lambda: len(router.router.fleet.snapshot.ready) == 2)
    router.router.fleet.want(settings.backends)
    assert (await chat(router.port)).body == b"new"
    router.router.fleet.want(())
    reply = await chat(router.port)
    assert reply.status == 503  # not unknown: whoever had it may come back


async def test_who_stops_a_server_learns_what_runs_there(start: Start, serve: Serve) -> None:
    stream = Stream()
    backend = await serve(stream)
    router = await start(backend)
    endpoint = router.router.fleet.snapshot.servers[0].endpoint

    async def told() -> list[dict[str, Any]]:
        reply = await get(router.operators_port, "/servers")
        assert reply.fields["content-type"].startswith("application/json")
        servers: list[dict[str, Any]] = json.loads(reply.body)["servers"]
        return [{key: one[key] for key in one if key != "heard"} for one in servers]

    def says(state: str, in_flight: int, name: str = backend.name) -> list[dict[str, Any]]:
        models = {"m:latest": in_flight} if in_flight else {}
        one = {"name": name, "url": backend.url, "state": state, "inFlight": in_flight}
        return [{**one, "models": models, "wedged": []}]

    assert await told() == says("Ready", 0)
    client = await Client.connect(router.port)
    client.ask()
    await client.reader.readuntil(b"one\r\n")
    assert await told() == says("Ready", 1)
    router.router.fleet.want([replace(endpoint, held=State.DRAINING)])
    assert await told() == says("Draining", 1)
    router.router.fleet.want([])
    assert await told() == says("Gone", 1, name="")
    stream.end.set()
    await client.reader.readuntil(LAST_CHUNK)
    await eventually(lambda: router.in_flight == 0)
    assert await told() == []


async def test_strategies_share_out_requests(start: Start, serve: Serve) -> None:
    heavy = await serve(say(b"heavy"), weight=300)
    light = await serve(say(b"light"), weight=1)
    turns = await start(heavy, light, strategy={"type": "RoundRobin"})
    answers = [(await chat(turns.port)).body for _ in range(8)]
    assert answers[0] != answers[1]
    assert answers == answers[:2] * 4
    weighted = await start(heavy, light, strategy={"type": "Weighted"})
    answers = [(await chat(weighted.port)).body for _ in range(40)]
    assert answers.count(b"heavy") > 30
