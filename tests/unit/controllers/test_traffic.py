"""Routers are asked what is under way; who does not answer is not taken for idle."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from ollama_fleet.controllers import traffic
from ollama_fleet.controllers.store import Store
from ollama_fleet.controllers.traffic import Traffic
from ollama_fleet.kube import Object
from ollama_fleet.plan.drain import Use
from tests.unit.controllers.conftest import FakeClock

URL = "http://10.0.0.1:11434"


class FakeRouter:
    """Answers /servers with what the test says."""

    def __init__(self) -> None:
        self.answer: object = {"servers": []}
        self.status = 200

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(self.answer).encode()
        head = (
            f"HTTP/1.1 {self.status} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    def says(self, **in_flight: int) -> None:
        self.answer = {
            "servers": [
                {"name": "a-0", "url": URL, "state": state, "inFlight": count}
                for state, count in in_flight.items()
            ]
        }


@pytest.fixture
async def router(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeRouter]:
    fake = FakeRouter()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    monkeypatch.setattr(traffic, "ADMIN_PORT", server.sockets[0].getsockname()[1])
    yield fake
    server.close()
    await server.wait_closed()


def pod(name: str = "r-1", ip: str | None = "127.0.0.1", label: str = "router") -> Object:
    meta = {"name": name, "namespace": "llm", "uid": name, "resourceVersion": "1"}
    labels = {f"ollamafleet.dev/{label}": "chat"}
    status = {"podIP": ip} if ip else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta | {"labels": labels},
        "status": status,
    }


def watching(*pods: Object) -> tuple[Traffic, list[str]]:
    store, heard = Store(), list[str]()
    for one in pods:
        store.put(one)
    return Traffic(store, FakeClock(), 30.0, heard.append), heard


async def test_what_each_router_says(router: FakeRouter) -> None:
    made, _ = watching(pod(), pod("r-2", ip=None), pod("a-0", label="ollamanode"))
    router.says(Ready=1, Gone=2)
    assert await made.reports("llm") == ({URL: Use(taking=True, in_flight=3)},)
    router.says(Draining=0)
    assert await made.reports("llm") == ({URL: Use(taking=False, in_flight=0)},)
    assert await made.reports("elsewhere") == ()


async def test_how_many_requests_there_are_for_each_model(router: FakeRouter) -> None:
    made, _ = watching(pod())
    one = {"name": "a-0", "url": URL, "inFlight": 2}
    router.answer = {
        "servers": [
            {**one, "state": "Gone", "models": {"m:1b": 2}},
            {**one, "state": "Ready", "models": {"m:1b": 1, "n:1b": 1}},
        ]
    }
    assert await made.reports("llm") == ({URL: Use(True, 4, {"m:1b": 3, "n:1b": 1})},)


async def test_what_is_wedged_is_told_with_its_change(router: FakeRouter) -> None:
    made, heard = watching(pod())
    one = {"name": "a-0", "url": URL, "state": "Ready", "inFlight": 0}
    told = {**one, "wedged": ["m:1b"], "heard": ["m:1b", "n:1b"]}
    router.answer = {"servers": [told]}
    await made.look()
    assert (made.wedged("llm"), heard) == ({URL: ("m:1b",)}, ["llm"])
    (report,) = await made.reports("llm")
    assert report is not None
    # a router that says "wedged" has heard it before that
    assert report[URL].heard == {"n:1b"}
    await made.look()
    assert heard == ["llm"]
    router.answer = {"servers": [one]}
    await made.look()
    assert (made.wedged("llm"), heard) == ({}, ["llm", "llm"])
    router.status = 500
    await made.look()
    assert made.wedged("llm") == {}


async def test_an_answer_that_makes_no_sense_is_none(router: FakeRouter) -> None:
    made, _ = watching(pod())
    wrong: list[object] = [[], {}, {"servers": [{}]}, {"servers": [{"url": URL, "state": 1}]}]
    for answer in wrong:
        router.answer = answer
        assert await made.reports("llm") == (None,)
    router.says(Draining=0)
    router.status = 500
    assert await made.reports("llm") == (None,)


async def test_who_listens_no_longer_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_nobody = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    monkeypatch.setattr(traffic, "ADMIN_PORT", with_nobody.sockets[0].getsockname()[1])
    with_nobody.close()
    await with_nobody.wait_closed()
    made, _ = watching(pod())
    assert await made.reports("llm") == ({},)


async def test_a_fresh_operator_asks_before_it_tells_and_once(router: FakeRouter) -> None:
    made, heard = watching(pod())
    router.says(Ready=2)
    await asyncio.gather(made.meet("llm"), made.meet("llm"))
    assert made.active("llm") == {URL: 2}
    router.says(Ready=3)
    await made.meet("llm")
    assert made.active("llm") == {URL: 2}
    assert heard == []


async def test_what_was_told_stands_until_all_have_answered(router: FakeRouter) -> None:
    made, heard = watching(pod())
    router.says(Ready=1)
    await made.look()
    looking = asyncio.create_task(made.look())
    await asyncio.sleep(0)
    assert made.active("llm") == {URL: 1}
    await looking
    assert heard == ["llm"]


async def test_only_changes_are_told(router: FakeRouter) -> None:
    made, heard = watching(pod())
    await made.look()
    assert (made.active("llm"), heard) == ({}, ["llm"])  # it was not known before
    await made.look()
    assert heard == ["llm"]
    heard.clear()
    router.says(Ready=2)
    await made.look()
    await made.look()
    assert (made.active("llm"), heard) == ({URL: 2}, ["llm"])
    router.says(Ready=0)
    await made.look()
    assert (made.active("llm"), heard) == ({}, ["llm", "llm"])
    router.status = 500
    await made.look()
    assert (made.active("llm"), heard) == (None, ["llm", "llm", "llm"])
