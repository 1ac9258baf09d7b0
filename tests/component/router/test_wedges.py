"""A model that never answers on one server is found out, and a slow one is left in peace."""

import asyncio
import json
import time
from typing import Any

import pytest

from ollama_fleet.router import wedge, wedges
from ollama_fleet.router.caller import ProbeError
from ollama_fleet.router.snapshot import MEND_SECONDS, Load
from tests.component.router.conftest import Running, Serve, Start
from tests.component.router.peers import (
    CHAT,
    HELLO,
    LAST_CHUNK,
    STREAM_HEAD,
    Backend,
    Client,
    Exchange,
    Reply,
    chat,
    chunk,
    eventually,
    get,
    say,
)

M = "m:latest"
LONG = json.dumps({"model": "m", "prompt": "x" * 1000}).encode()


class Model:
    """Answers in order, one at a time, as an Ollama with one slot; until it is wedged."""

    def __init__(self) -> None:
        self.wedged = False
        self.seconds = 0.0
        self.unloads = False
        self.backend: Backend | None = None
        self._slot = asyncio.Lock()

    async def __call__(self, exchange: Exchange) -> None:
        seconds = self.seconds
        if exchange.head.startswith(b"POST /api/generate"):
            seconds = 0.0
            asked = json.loads(exchange.body)
            if "keep_alive" in asked:
                self.unload()
                await say(b'{"done_reason":"unload"}')(exchange)
                return
            assert asked["options"] == {"num_predict": 1}
        if self.wedged:
            await asyncio.Event().wait()
        async with self._slot:
            await asyncio.sleep(seconds)
            await say(b"hello")(exchange)

    def unload(self) -> None:
        """As Ollama does once no request is there; in some tests nothing comes of it."""
        if self.unloads and self.backend is not None:
            self.backend.resident = []
            self.wedged = False


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wedges, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(wedges, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(wedges, "MEND_SECONDS", 0.6)
    monkeypatch.setattr(wedge, "LEAST", 0.4)
    monkeypatch.setattr(wedge, "CHECK", 0.1)
    monkeypatch.setattr(wedge, "LOAD", 60.0)
    monkeypatch.setattr(wedge, "UNSTREAMED", 2.0)


async def leave_early(router: Running, backend: Backend) -> None:
    """A client asks, and leaves before it is answered."""
    before = len(backend.exchanges)
    client = await Client.connect(router.port)
    client.ask()
    await eventually(lambda: len(backend.exchanges) > before)
    client.leave()
    await eventually(lambda: not router.in_flight)


def accused(router: Running) -> dict[str, list[str]]:
    servers = router.router.fleet.snapshot.servers
    return {one.name: list(one.load.wedged) for one in servers if one.load.wedged}


def loads(router: Running) -> list[Load]:
    return [one.load for one in router.router.fleet.snapshot.servers]


async def wedged(router: Running, model: Model, backend: Backend) -> None:
    """It answered, a client leaves early, and it never answers again."""
    assert (await chat(router.port)).body == b"hello"
    model.wedged = True
    await leave_early(router, backend)


async def test_a_wedged_model_is_found_out_and_its_requests_go_elsewhere(
    start: Start, serve: Serve
) -> None:
    model = Model()
    bad, good = await serve(model, resident=[M]), await serve(say(b"elsewhere"))
    router = await start(bad, good)
    await wedged(router, model, bad)
    began = time.monotonic()
    replies = await asyncio.gather(*(chat(router.port) for _ in range(5)))
    assert {reply.body for reply in replies} == {b"elsewhere"}
    assert time.monotonic() - began < 5
    assert accused(router) == {bad.name: [M]}
    assert router.router.accounting.retries["Wedged"] >= 1
    before = len(bad.exchanges)
    for _ in range(20):
        assert (await chat(router.port)).body == b"elsewhere"
    assert all(b"/api/generate" in one.head for one in bad.exchanges[before:])

    async def told() -> dict[str, list[str]]:
        servers = json.loads((await get(router.operators_port, "/servers")).body)["servers"]
        return {one["name"]: one["wedged"] for one in servers}

    # whoever restarts servers hears of it when nothing milder has helped
    assert await told() == {bad.name: [], good.name: []}
    bad_load = next(load for load in loads(router) if load.wedged)
    bad_load.wedged[M] -= MEND_SECONDS
    assert await told() == {bad.name: [M], good.name: []}
    metrics = (await get(router.operators_port, "/metrics")).body.decode()
    assert f'router_wedged{{model="{M}",server="{bad.name}"}} 1.0' in metrics


async def test_a_request_moves_to_where_the_model_is_in_memory(start: Start, serve: Serve) -> None:
    model = Model()
    bad = await serve(model, resident=[M])
    cold, warm = await serve(say(b"cold")), await serve(say(b"warm"))
    router = await start(
        bad, cold, warm, strategy={"type": "RoundRobin"}, health={"interval": "50ms"}
    )
    while (await chat(router.port)).body != b"hello":
        pass
    model.wedged = True
    warm.resident = [M]
    # whose turn it is decides where each goes first, and memory where the one that waits goes then
    bodies = [(await chat(router.port)).body for _ in range(3)]
    assert list(accused(router)) == [bad.name]
    assert sorted(bodies) == [b"cold", b"warm", b"warm"]


async def test_with_no_other_server_clients_are_told(start: Start, serve: Serve) -> None:
    model = Model()
    bad = await serve(model, resident=[M])
    router = await start(bad)
    await wedged(router, model, bad)
    waiting = asyncio.create_task(chat(router.port))
    await eventually(lambda: accused(router))
    for reply in (await chat(router.port), await waiting):
        assert (reply.status, reply.fields["retry-after"]) == (503, "30")
        assert b"does not answer with it any more" in reply.body
    model.wedged = False
    await eventually(lambda: not accused(router))
    assert (await chat(router.port)).body == b"hello"


async def test_a_server_that_unloads_the_model_is_mended_and_loses_nothing(
    start: Start, serve: Serve
) -> None:
    model = Model()
    model.unloads = True
    model.backend = only = await serve(model, resident=[M])
    router = await start(only)
    await wedged(router, model, only)
    replies = await asyncio.gather(*(chat(router.port) for _ in range(5)))
    assert {reply.body for reply in replies} == {b"hello"}
    assert not accused(router)
    assert router.in_flight == 0


async def test_a_client_that_leaves_while_a_server_is_mended(start: Start, serve: Serve) -> None:
    model = Model()
    only = await serve(model, resident=[M])
    router = await start(only)
    await wedged(router, model, only)
    client = await Client.connect(router.port)
    client.ask()
    await eventually(lambda: accused(router))
    client.leave()
    await eventually(lambda: not router.router.relay.exchanges)
    assert router.in_flight == 0


async def test_what_is_out_of_memory_is_wedged_no_longer(start: Start, serve: Serve) -> None:
    model = Model()
    bad = await serve(model, resident=[M])
    router = await start(bad)
    await wedged(router, model, bad)
    waiting = asyncio.create_task(chat(router.port))
    await eventually(lambda: accused(router))
    assert (await waiting).status == 503
    bad.resident = []
    await eventually(lambda: not accused(router))


async def test_without_anybody_leaving_it_takes_longer(start: Start, serve: Serve) -> None:
    model = Model()
    bad, good = await serve(model, resident=[M]), await serve(say(b"elsewhere"))
    router = await start(bad, good)
    assert (await chat(router.port)).body == b"hello"
    model.wedged = True
    began = time.monotonic()
    assert (await chat(router.port)).body == b"elsewhere"
    assert time.monotonic() - began >= 2 * wedge.LEAST
    assert accused(router) == {bad.name: [M]}


async def test_retries_that_are_off_stay_off(start: Start, serve: Serve) -> None:
    model = Model()
    bad, good = await serve(model, resident=[M]), await serve(say(b"elsewhere"))
    router = await start(bad, good, retry={"attempts": 1}, timeouts={"firstByte": "2s"})
    await wedged(router, model, bad)
    assert (await chat(router.port)).status == 504
    assert accused(router)
    assert (await chat(router.port)).body == b"elsewhere"


async def embedded(router: Running) -> Reply:
    return await chat(router.port, b'{"model":"m","input":"x"}', "/api/embed")


async def test_an_embedding_model_is_checked_by_an_embedding(start: Start, serve: Serve) -> None:
    dead = False

    async def answer(exchange: Exchange) -> None:
        assert exchange.head.startswith(b"POST /api/embed ")
        if dead and "keep_alive" not in json.loads(exchange.body):
            await asyncio.Event().wait()
        await say(b"[]")(exchange)

    bad, good = await serve(answer, resident=[M]), await serve(say(b"elsewhere"))
    router = await start(bad, good)
    assert (await embedded(router)).body == b"[]"
    dead = True
    assert (await embedded(router)).body == b"elsewhere"
    assert accused(router) == {bad.name: [M]}


@pytest.mark.parametrize("listing", [b"[]", b"{", b'{"models": 7}', b'"models"'])
async def test_a_listing_that_is_none_is_no_answer(
    start: Start, serve: Serve, listing: bytes
) -> None:
    backend = await serve(HELLO)
    router = await start(backend)
    (server,) = router.router.fleet.snapshot.servers
    backend.listing = listing
    for ask in (wedges.asks, wedges.unload):
        with pytest.raises(ProbeError, match=r"api/ps|list of models"):
            await ask(server, M, embeds=False)


class Slow:
    """Ways of being slow and well; each answers, and how long it takes is no reason to accuse."""

    def __init__(self, start: Start, serve: Serve) -> None:
        self.start = start
        self.serve = serve

    async def one_slot_that_streams(self) -> Running:
        """Others wait for the one that streams."""
        step = asyncio.Event()
        slot = asyncio.Lock()

        async def answer(exchange: Exchange) -> None:
            async with slot:
                await exchange.send(STREAM_HEAD)
                for _ in range(15):
                    await exchange.send(chunk(b"x"))
                    await asyncio.sleep(0.1)
                await exchange.send(LAST_CHUNK)
                step.set()

        router = await self.ready(answer)
        replies = await asyncio.gather(*(chat(router.port) for _ in range(2)))
        assert all(reply.whole for reply in replies)
        return router

    async def a_long_prompt(self) -> Running:
        model = Model()
        router = await self.ready(model)
        model.seconds = 3.0
        assert (await chat(router.port, LONG)).body == b"hello"
        return router

    async def an_answer_in_one_piece(self) -> Running:
        model = Model()
        router = await self.ready(model)
        model.seconds = 1.8
        body = b'{"model":"m","stream":false}'
        assert (await chat(router.port, body)).body == b"hello"
        return router

    async def an_answer_in_one_piece_by_default(self) -> Running:
        model = Model()
        router = await self.ready(model)
        model.seconds = 1.8
        assert (await chat(router.port, CHAT, "/v1/chat/completions")).body == b"hello"
        return router

    async def slots_that_are_free(self) -> Running:
        """One request is slow, and another slot answers what is asked besides."""

        async def answer(exchange: Exchange) -> None:
            if b"/api/generate" not in exchange.head and ready:
                await asyncio.sleep(2.0)
            await say(b"hello")(exchange)

        ready = False
        router = await self.ready(answer)
        ready = True
        assert (await chat(router.port)).body == b"hello"
        return router

    async def always_so(self) -> Running:
        """It has been as slow before."""
        model = Model()
        model.seconds = 0.7
        router = await self.ready(model)
        for _ in range(2):
            assert (await chat(router.port)).body == b"hello"
        assert (await chat(router.port)).body == b"hello"
        return router

    async def a_load(self) -> Running:
        """A cold model takes its time, and is listed before it is there."""
        model = Model()
        model.seconds = 2.0
        backend = await self.serve(model, resident=[M])
        router = await self.start(backend)
        first = await Client.connect(router.port)
        first.ask()
        await eventually(lambda: backend.exchanges)
        first.leave()
        assert (await chat(router.port)).body == b"hello"
        return router

    async def behind_a_load(self) -> Running:
        """The server loads another model first."""
        loaded = asyncio.Event()

        async def answer(exchange: Exchange) -> None:
            if ready:
                await loaded.wait()
            await say(b"hello")(exchange)

        ready = False
        backend = await self.serve(answer, models=[M, "n:latest"], resident=[M])
        router = await self.start(backend)
        assert (await chat(router.port)).body == b"hello"
        ready = True
        other = asyncio.create_task(chat(router.port, b'{"model":"n"}'))
        await eventually(lambda: len(backend.exchanges) == 2)
        mine = asyncio.create_task(chat(router.port))
        done, _ = await asyncio.wait((other, mine), timeout=2.0)
        assert not done
        loaded.set()
        assert (await mine).body == (await other).body == b"hello"
        return router

    async def ready(self, answer: Any) -> Running:
        """A server that has answered once."""
        router = await self.start(await self.serve(answer, resident=[M]))
        assert (await chat(router.port)).whole
        return router


@pytest.mark.parametrize(
    "how", [name for name in vars(Slow) if not name.startswith(("_", "ready"))]
)
async def test_who_is_slow_and_well_is_not_accused(start: Start, serve: Serve, how: str) -> None:
    found: list[dict[str, list[str]]] = []
    original = wedges.Wedges._accuse

    def accuse(self: Any, place: Any, exchanges: Any, now: float) -> None:
        original(self, place, exchanges, now)
        found.append({place.server.name: [place.model]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wedges.Wedges, "_accuse", accuse)
        router = await getattr(Slow(start, serve), how)()
    assert not found
    assert not accused(router)
    assert not router.router.accounting.retries
