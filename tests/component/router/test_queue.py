"""Requests that find no slot: they wait their turn, or are told why not."""

import asyncio
import json
from functools import partial
from random import Random
from typing import Any

import pytest

from tests.component.router.conftest import QUICK, Running, Serve, Start
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
    get,
    say,
)

RARELY: dict[str, Any] = {**QUICK["health"], "interval": "60s"}
EXPLAIN = "X-Ollama-Fleet-Decision: 1\r\n"


class Doors:
    """A server's answers, each let out by the test; counts how many are under way."""

    def __init__(self) -> None:
        self.under_way: list[int] = []
        self.order: list[int] = []
        self.most = 0
        self._doors: dict[int, asyncio.Event] = {}

    async def answer(self, exchange: Exchange) -> None:
        number = json.loads(exchange.body)["n"]
        self.under_way.append(number)
        self.order.append(number)
        self.most = max(self.most, len(self.under_way))
        try:
            await self.door(number).wait()
            tokens = json.loads(exchange.body).get("tokens", 10)
            usage = b'{"done":true,"prompt_eval_count":0,"eval_count":%d}\n' % tokens
            await exchange.send(STREAM_HEAD + chunk(usage) + LAST_CHUNK)
        finally:
            self.under_way.remove(number)

    def door(self, number: int) -> asyncio.Event:
        return self._doors.setdefault(number, asyncio.Event())

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.door(number).set()


def body(number: int, model: str = "m", **more: Any) -> bytes:
    return json.dumps({"model": model, "n": number, **more}).encode()


def waiting(router: Running) -> int:
    return sum(router.router.relay.admission.waiting().values())


async def ask(
    router: Running, *numbers: int, local: str = "127.0.0.1", **more: Any
) -> list[Client]:
    """Each on a connection of its own, in this order."""
    clients = []
    for number in numbers:
        enough = partial(has_begun, router, begun(router) + 1)
        client = await Client.connect(router.port, local_addr=(local, 0))
        client.ask(body(number, **more))
        await eventually(enough)
        clients.append(client)
    return clients


def has_begun(router: Running, count: int) -> bool:
    return begun(router) >= count


def begun(router: Running) -> int:
    """How many requests have come, whatever became of them."""
    accounting = router.router.accounting
    counts = accounting.servers.values()
    over = sum(one.requests.total() + one.unfinished.total() for one in counts)
    return router.router.relay.exchanges + over + accounting.rejected.total()


async def test_never_more_than_the_server_answers_at_a_time(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer, parallel=2))
    clients = await ask(router, *range(6))
    await eventually(lambda: len(doors.order) == 2)
    assert (router.in_flight, waiting(router)) == (2, 4)
    for number in (1, 0, 2, 3, 4, 5):
        await eventually(partial(doors.under_way.__contains__, number))
        doors.open(number)
        assert (await clients[number].reply()).status == 200
    assert doors.order == [0, 1, 2, 3, 4, 5]
    assert doors.most == 2
    assert (router.in_flight, router.router.relay.exchanges) == (0, 0)


async def test_a_number_in_place_of_the_servers_own(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer), queue={"perServer": 3})
    await ask(router, *range(5))
    await eventually(lambda: len(doors.order) == 3)
    assert (router.in_flight, waiting(router)) == (3, 2)


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/api/chat", lambda told: told["error"]),
        ("/v1/chat/completions", lambda told: told["error"]["message"]),
        ("/v1/messages", lambda told: told["error"]["message"]),
    ],
)
async def test_what_finds_the_queue_full(start: Start, serve: Serve, path: str, shape: Any) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer), queue={"size": 1})
    first, second = await ask(router, 1, 2)
    refused = await chat(router.port, body(3), path)
    assert refused.status == 503
    assert int(refused.fields["retry-after"]) >= 1
    assert shape(json.loads(refused.body)).startswith(
        "every server with 'm' is busy and 1 request waits already; try again in "
    )
    doors.open(1, 2)
    assert [(await one.reply()).status for one in (first, second)] == [200, 200]
    assert doors.order == [1, 2]
    assert router.router.accounting.rejected["QueueFull"] == 1


async def test_no_queue_at_all(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer), queue={"size": 0})
    (first,) = await ask(router, 1)
    refused = await chat(router.port, body(2))
    assert refused.status == 503
    assert b"every server with 'm' is busy; try again in" in refused.body
    doors.open(1, 3)
    assert (await first.reply()).status == 200
    assert (await chat(router.port, body(3))).status == 200


async def test_whoever_has_waited_for_too_long(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer), queue={"timeout": "300ms"})
    await ask(router, 1)
    refused = await chat(router.port, body(2))
    assert refused.status == 503
    assert "retry-after" in refused.fields
    told = json.loads(refused.body)["error"]
    assert told.startswith("waited 0.")
    assert " s, but no server with 'm' had a slot free; try again in " in told
    assert doors.order == [1]
    assert waiting(router) == 0
    assert router.router.accounting.rejected["QueueTimeout"] == 1


async def test_clients_who_leave(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer))
    _, second, third, fourth = await ask(router, 1, 2, 3, 4)
    second.leave()
    await eventually(lambda: waiting(router) == 2)
    doors.open(1, 3, 4)
    assert [(await one.reply()).status for one in (third, fourth)] == [200, 200]
    assert doors.order == [1, 3, 4]


async def test_a_slot_of_one_model_is_not_held_up_by_another(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer, models=["m:latest", "other:latest"]))
    await ask(router, 1, 2)
    await ask(router, 3, model="other")
    await eventually(lambda: doors.order == [1, 3])


async def test_showing_a_model_takes_no_slot(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer))
    await ask(router, 1, 2)
    doors.open(3)
    assert (await chat(router.port, body(3), "/api/show")).status == 200
    assert doors.order == [1, 3]


async def test_clients_take_turns(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer))
    await ask(router, 0, 1, 2, 3)
    await ask(router, 11, 12, local="127.0.0.2")
    doors.open(*range(20))
    await eventually(lambda: len(doors.order) == 6)
    assert doors.order == [0, 1, 11, 2, 12, 3]


async def test_turns_are_counted_in_tokens(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer))
    await ask(router, *range(5), tokens=5000)
    await ask(router, *range(10, 16), local="127.0.0.2", tokens=10)
    doors.open(*range(20))
    await eventually(lambda: len(doors.order) == 11)
    assert doors.order == [0, 1, 10, 11, 12, 13, 14, 15, 2, 3, 4]


async def test_a_full_queue_makes_room_for_whoever_has_less_in_it(
    start: Start, serve: Serve
) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer), queue={"size": 3})
    greedy = await ask(router, 0, 1, 2, 3)
    (modest,) = await ask(router, 10, local="127.0.0.2")
    refused = await greedy[3].reply()
    assert refused.status == 503
    assert b"try again in" in refused.body
    doors.open(0, 1, 2, 10)
    assert (await modest.reply()).status == 200
    assert doors.order[:3] == [0, 1, 10]


async def test_where_it_began_to_wait_is_told_on_request(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer))
    await ask(router, 1, 2)
    client = await Client.connect(router.port)
    client.ask(body(3), more=EXPLAIN)
    await eventually(lambda: waiting(router) == 2)
    doors.open(1, 2, 3)
    assert (await client.reply()).fields["x-ollama-fleet-queue-position"] == "2"
    doors.open(4)
    reply = await chat(router.port, body(4), more=EXPLAIN)
    assert "x-ollama-fleet-queue-position" not in reply.fields


async def test_a_server_that_comes_takes_over_what_waits(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer), late := await serve(models=[]))
    _, waits = await ask(router, 1, 2)
    late.models.append("m:latest")
    router.router.prober.poke(late.name)
    assert (await waits.reply()).body == b"hello"


async def test_a_server_that_is_busy_is_left_alone_for_a_moment(start: Start, serve: Serve) -> None:
    """Those who wait are not all sent into the same refusal."""
    first = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        if len(backend.exchanges) == 1:
            await first.wait()
            await say(b"{}", "503 Service Unavailable")(exchange)
        else:
            await HELLO(exchange)

    backend = await serve(answer)
    router = await start(backend, health=RARELY)
    busy, *others = await ask(router, 1, 2, 3)
    first.set()
    assert (await busy.reply()).status == 503
    assert (router.in_flight, waiting(router)) == (0, 2)
    assert [(await one.reply()).status for one in others] == [200, 200]


async def lost_on_the_way(
    start: Start, serve: Serve, **spec: Any
) -> tuple[Running, Doors, asyncio.Event, Client, Backend]:
    """One server with a full slot, and a request at another one, which will break off."""
    doors, breaks = Doors(), asyncio.Event()

    async def cut(exchange: Exchange) -> None:
        await breaks.wait()
        exchange.cut()

    bad, good = await serve(cut), await serve(doors.answer)
    once = {"failures": 1, "cooldown": "60s"}
    router = await start(bad, good, health={"interval": "60s", "breaker": once}, **spec)
    router.router.fleet.learned_resident(good.name, "m:latest")
    (_,) = await ask(router, 1)
    await eventually(lambda: doors.order == [1])
    (client,) = await ask(router, 2)
    await eventually(lambda: len(bad.exchanges) == 1)
    return router, doors, breaks, client, good


async def test_a_request_that_comes_back_waits_before_all_others(
    start: Start, serve: Serve
) -> None:
    router, doors, breaks, client, _ = await lost_on_the_way(start, serve)
    await ask(router, 3)
    breaks.set()
    await eventually(lambda: waiting(router) == 2)
    doors.open(1, 2)
    assert (await client.reply()).status == 200
    assert doors.order[:2] == [1, 2]
    assert router.router.accounting.retries["ConnectFailure"] >= 1


async def test_a_request_that_comes_back_waits_no_longer_than_any(
    start: Start, serve: Serve
) -> None:
    _, doors, breaks, client, _ = await lost_on_the_way(start, serve, queue={"timeout": "300ms"})
    breaks.set()
    reply = await client.reply()
    assert reply.status == 503
    assert b"waited 0." in reply.body
    assert doors.order == [1]


async def test_a_request_that_comes_back_finds_the_queue_full(start: Start, serve: Serve) -> None:
    router, doors, breaks, client, _ = await lost_on_the_way(start, serve, queue={"size": 0})
    breaks.set()
    reply = await client.reply()
    assert reply.status == 503
    assert b"no server with 'm' could be reached" in reply.body
    assert waiting(router) == 0
    assert doors.order == [1]


async def test_pipelined_requests_wait_in_order(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer), queue={"size": 1})
    await ask(router, 1)
    client = await Client.connect(router.port)
    client.ask(body(2))
    client.ask(body(3))
    await eventually(lambda: waiting(router) == 1)
    doors.open(1, 2, 3)
    assert [(await client.reply()).status for _ in range(2)] == [200, 200]
    assert doors.order == [1, 2, 3]


async def test_leaving_serves_those_who_wait(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer))
    clients = await ask(router, 1, 2, 3)
    drained = asyncio.create_task(router.router.drain(0, 10))
    doors.open(1, 2, 3)
    assert [(await one.reply()).status for one in clients] == [200, 200, 200]
    assert await drained == 0


async def test_metrics(start: Start, serve: Serve) -> None:
    doors = Doors()
    router = await start(await serve(doors.answer), queue={"size": 2})
    clients = await ask(router, 1, 2, 3, 4)
    text = (await get(router.operators_port, "/metrics")).body.decode()
    assert 'ollama_fleet_router_queue_length{model="m:latest"} 2.0' in text
    assert 'ollama_fleet_router_rejected_total{reason="QueueFull"} 1.0' in text
    doors.open(1, 2, 3)
    for client in clients[:3]:
        await client.reply()
    text = (await get(router.operators_port, "/metrics")).body.decode()
    assert 'ollama_fleet_router_queue_length{model="m:latest"} 0.0' in text
    assert 'ollama_fleet_router_queue_wait_seconds_count{model="m:latest"} 2' in text


async def test_any_coming_and_going_keeps_slots_busy_and_caps_whole(
    start: Start, serve: Serve
) -> None:
    """With more asked than can be served, every slot is in use whenever one looks."""
    random = Random(3)
    most = 0

    async def answer(exchange: Exchange) -> None:
        nonlocal most
        at_once = sum(one.load.in_flight for one in router.router.fleet.snapshot.servers)
        most = max(most, at_once)
        await asyncio.sleep(random.random() / 100)
        if random.random() < 0.1:
            exchange.cut()
        else:
            await HELLO(exchange)

    backends = [await serve(answer, parallel=parallel) for parallel in (1, 2, 3)]
    router = await start(*backends, health=RARELY)

    async def one(number: int) -> None:
        client = await Client.connect(router.port)
        for _ in range(4):
            client.ask(CHAT)
            if random.random() < 0.1:
                break
            await client.reply()
        client.leave()

    await asyncio.gather(*(one(number) for number in range(60)))
    await eventually(lambda: router.router.relay.exchanges == 0)
    assert (router.in_flight, waiting(router)) == (0, 0)
    assert most == 6


@pytest.mark.parametrize("seed", range(3))
async def test_no_slot_is_idle_while_somebody_waits(start: Start, serve: Serve, seed: int) -> None:
    """Whatever clients do: come, leave the queue, leave a server, or get their answers."""
    random = Random(seed)
    doors = Doors()
    caps = (1, 2)
    models = ["m:latest", "n:latest"]  # in memory everywhere: nobody waits in place of a load
    backends = [
        await serve(doors.answer, parallel=cap, models=models, resident=models) for cap in caps
    ]
    router = await start(*backends, health=RARELY, queue={"size": 6})
    admission, servers = router.router.relay.admission, router.router.fleet.snapshot.servers
    clients: dict[int, Client] = {}

    def busy() -> bool:
        """No model has both a request that waits and a free slot."""
        under_way = {
            model: sum(s.load.models.get(model, 0) for s in servers)
            for model in ("m:latest", "n:latest")
        }
        return all(under_way[model] == sum(caps) for model in admission.waiting())

    for number in range(150):
        step = random.random()
        if step < 0.5:
            local, model = f"127.0.0.{random.randint(1, 3)}", random.choice("mn")
            (clients[number],) = await ask(router, number, local=local, model=model)
        elif step < 0.7 and clients:
            clients.pop(random.choice(list(clients))).leave()
        elif doors.under_way:
            doors.open(random.choice(doors.under_way))
        await eventually(busy)
        for server in servers:
            cap = server.endpoint.parallel
            assert all(count <= cap for count in server.load.models.values())
    doors.open(*range(150))
    await eventually(lambda: router.router.relay.exchanges == 0)
    assert (router.in_flight, waiting(router)) == (0, 0)
