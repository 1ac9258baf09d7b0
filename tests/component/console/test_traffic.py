"""Routers are asked what passes through them while somebody looks, and by one loop for all."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from ollama_fleet.api.servers import ROUTER_LABEL
from ollama_fleet.console import traffic
from ollama_fleet.console.traffic import Traffic
from ollama_fleet.kube import Kube

METRICS = """ollama_fleet_router_requests_total{{path="/",server="a-0",status="200"}} {count}
ollama_fleet_router_server_ready{{server="a-0",state="Ready"}} 1.0
process_start_time_seconds 1.0
"""


class Router(BaseHTTPRequestHandler):
    """It has answered one request more each time it is asked."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        body = METRICS.format(count=self.asked).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Pods:
    """The API server: pods of two routers, one of which answers nothing."""

    def __init__(self) -> None:
        self.lists = 0

    async def list(self, *_: object) -> list[Any]:
        self.lists += 1
        return [
            {
                "metadata": {"name": name, "namespace": "llm", "labels": {ROUTER_LABEL: name}},
                "status": {"podIP": address},
            }
            for name, address in (("chat", "127.0.0.1"), ("new", None), ("away", "127.0.0.2"))
        ]


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pods]:
    Router.asked = 0
    for name, seconds in (("EVERY", 0.05), ("FIRST", 0.02), ("STAY", 0.1)):
        monkeypatch.setattr(traffic, name, seconds)
    with ThreadingHTTPServer(("127.0.0.1", 0), Router) as server:
        monkeypatch.setattr(traffic, "ADMIN_PORT", server.server_port)
        threading.Thread(target=server.serve_forever).start()
        yield Pods()
        server.shutdown()


async def until(check: Callable[[], object]) -> None:
    """Wait for it to be so."""
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_whoever_asks_once_has_figures(pods: Pods) -> None:
    async def look() -> None:
        looking = Traffic(cast(Kube, pods), ())
        assert looking.all() == {}
        await looking.asked()
        told = looking.of("llm.chat")
        assert told is not None
        assert told.requests_per_second
        assert [one.name for one in told.servers] == ["a-0"]
        assert set(looking.all()) == {"llm.chat"}
        # and then it is left alone: whoever asks next begins anew
        await until(lambda: not looking.all())
        await looking.asked()
        assert looking.of("llm.chat") is not None
        await looking.stop()

    asyncio.run(look())
    assert pods.lists == 2


def test_all_who_look_share_one_loop(pods: Pods) -> None:
    async def look() -> None:
        changes: list[int] = []
        looking = Traffic(cast(Kube, pods), (), lambda: changes.append(Router.asked))
        with ExitStack() as many:
            for _ in range(20):
                many.enter_context(looking.looking())
            await until(lambda: len(changes) == 5)
            assert changes == [1, 2, 3, 4, 5]
        # who comes while it ends is looked for, too
        with looking.looking():
            await until(lambda: len(changes) > 7)
            assert looking.of("llm.chat")
        await until(lambda: not looking.all())
        await looking.stop()

    asyncio.run(look())


def test_where_pods_cannot_be_listed_there_are_no_figures(pods: Pods) -> None:
    class Closed(Pods):
        async def list(self, *_: object) -> list[Any]:
            raise RuntimeError("a defect")

    async def look() -> None:
        looking = Traffic(cast(Kube, Closed()), ())
        await looking.asked()
        assert looking.all() == {}
        await looking.stop()

    asyncio.run(look())
