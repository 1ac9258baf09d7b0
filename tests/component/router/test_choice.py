"""Which server a request goes to, as clients and servers notice it."""

import asyncio
import json
from typing import Any

import pytest

from ollama_fleet.router.snapshot import Loaded
from tests.component.router.conftest import Serve, Start
from tests.component.router.peers import Backend, Client, Exchange, chat, eventually, say

RARELY: dict[str, Any] = {"interval": "60s"}
AFFINITY: dict[str, Any] = {"type": "PrefixAffinity"}
EXPLAIN = "X-Ollama-Fleet-Decision: 1\r\n"
M = "m:latest"


def turns(path: str, topic: str) -> list[bytes]:
    """Three turns of a conversation, as the API of that path has them."""
    said: list[dict[str, Any]] = [{"role": "user", "content": f"Tell me about {topic}."}]
    bodies = []
    for number in range(3):
        fields = {"input" if path == "/v1/responses" else "messages": said}
        bodies.append(json.dumps({"model": "m", **fields}).encode())
        said = [
            *said,
            {"role": "assistant", "content": f"{topic}!"},
            {"role": "user", "content": f"And {number}?"},
        ]
    return bodies


@pytest.mark.parametrize(
    "path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses"]
)
async def test_a_conversation_stays_whichever_router_is_asked(
    start: Start, serve: Serve, path: str
) -> None:
    backends = [await serve(resident=[M]) for _ in range(4)]
    routers = [await start(*order, strategy=AFFINITY) for order in (backends, backends[::-1])]
    used = set()
    for topic in ("sun", "moon", "rain", "snow", "wind", "fire", "salt", "iron"):
        found = set()
        for router in routers:
            for body in turns(path, topic):
                reply = await chat(router.port, body, path, EXPLAIN)
                assert "(Conversation)" in reply.fields["x-ollama-fleet-decision"]
                found.add(reply.fields["x-ollama-fleet-server"])
        assert len(found) == 1
        used |= found
    assert len(used) > 1


async def test_embeddings_have_no_conversation(start: Start, serve: Serve) -> None:
    router = await start(await serve(resident=[M]), await serve(), strategy=AFFINITY)
    reply = await chat(router.port, b'{"model":"m","input":"x"}', "/api/embed", EXPLAIN)
    assert "(Resident)" in reply.fields["x-ollama-fleet-decision"]


async def test_requests_join_the_load_that_is_under_way(start: Start, serve: Serve) -> None:
    loaded = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await loaded.wait()
        await say(b"hello")(exchange)

    backends = [await serve(answer, parallel=4) for _ in range(3)]
    router = await start(*backends)
    clients = [await Client.connect(router.port) for _ in range(4)]
    for client in clients:
        client.ask(more=EXPLAIN)
        await eventually(lambda: router.in_flight == clients.index(client) + 1)  # noqa: B023
    await eventually(lambda: sum(len(backend.exchanges) for backend in backends) == 4)
    assert sorted(len(backend.exchanges) for backend in backends) == [0, 0, 4]
    loaded.set()
    told = [(await client.reply()).fields["x-ollama-fleet-decision"] for client in clients]
    assert "(Cold)" in told[0]
    assert all("(Loading)" in one for one in told[1:])
    await eventually(lambda: router.in_flight == 0)
    servers = router.router.fleet.snapshot.servers
    assert not any(server.load.loading for server in servers)


async def test_a_load_that_is_given_up_attracts_nobody(start: Start, serve: Serve) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.left()

    router = await start(await serve(never), await serve(never))
    client = await Client.connect(router.port)
    client.ask()
    await eventually(lambda: router.in_flight == 1)
    client.leave()
    await eventually(lambda: router.in_flight == 0)
    assert not any(server.load.loading for server in router.router.fleet.snapshot.servers)


async def test_what_a_load_has_evicted_is_noticed_at_once(start: Start, serve: Serve) -> None:
    async def evicts(exchange: Exchange) -> None:
        small.resident = [M]
        await say(b'{"done":true,"load_duration":7000000000}')(exchange)

    models = [M, "other:latest"]
    small: Backend = await serve(evicts, models=models, resident=["other:latest"])
    router = await start(small, health=RARELY)
    (server,) = router.router.fleet.snapshot.servers
    assert server.resident == {"other:latest"}
    assert server.load.memory == {"other:latest": Loaded(100, 0.0)}
    await chat(router.port)
    await eventually(lambda: router.router.fleet.snapshot.servers[0].resident == {M})
    assert router.router.relay.estimates.load(M, 0) == 7.0
    assert server.load.room == 0


async def test_show_loads_nothing(start: Start, serve: Serve) -> None:
    router = await start(await serve(), await serve(), health=RARELY)
    reply = await chat(router.port, b'{"model":"m"}', "/api/show", EXPLAIN)
    assert "(LeastLoad)" in reply.fields["x-ollama-fleet-decision"]
    assert not any(server.loaded for server in router.router.fleet.snapshot.servers)
