"""What operators may ask, on a listener of their own: health, metrics, servers, models, state."""

from collections.abc import Callable
from typing import Any

import orjson

from ollama_fleet.router.errors import Api, Refusal
from ollama_fleet.router.framing import Request
from ollama_fleet.router.front import JSON, TEXT, Front
from ollama_fleet.router.snapshot import Fleet

_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_PATHS = (
    b"/healthz",
    b"/readyz",
    b"/metrics",
    b"/servers",
    b"/inflight",
    b"/api/ps",
    b"/debug/state",
    b"/",
)


class Operators:
    """The handler of the metrics listener."""

    def __init__(
        self,
        ready: Callable[[], str],
        metrics: Callable[[], bytes],
        fleet: Fleet,
        told: Callable[[], bytes],
        state: Callable[[], dict[str, Any]],
    ) -> None:
        self._ready = ready
        self._metrics = metrics
        self._fleet = fleet
        self._told = told
        self._state = state

    def api_of(self, request: Request) -> Api:
        """Errors are told as Ollama tells them."""
        return Api.OLLAMA

    def admit(self, request: Request) -> None:
        """Refuse all but the few paths; raises `Refusal`."""
        if request.target not in _PATHS:
            told = "here are /healthz, /readyz, /metrics, /servers, /inflight, /api/ps and "
            told += "/debug/state"
            raise Refusal(404, told, reason="Path")
        if request.method not in (b"GET", b"HEAD"):
            raise Refusal(405, "405 method not allowed", reason="Method", allow="GET, HEAD")

    def refused(self, front: Front, request: Request, refusal: Refusal) -> None:
        """Nobody keeps a log of these."""

    def handle(self, front: Front, request: Request) -> None:
        """Answer."""
        if request.target == b"/metrics":
            front.answer(200, self._metrics(), _METRICS_TYPE)
            return
        if request.target == b"/servers":
            front.answer(200, orjson.dumps({"servers": servers(self._fleet)}), JSON)
            return
        if request.target == b"/api/ps":
            front.answer(200, orjson.dumps({"models": running(self._fleet)}), JSON)
            return
        if request.target == b"/":
            # `ollama ps` asks for it first
            front.answer(200, b"Ollama is running", TEXT)
            return
        if request.target == b"/inflight":
            front.answer(200, self._told(), JSON)
            return
        if request.target == b"/debug/state":
            front.answer(200, orjson.dumps(self._state(), option=orjson.OPT_INDENT_2), JSON)
            return
        waiting = self._ready() if request.target == b"/readyz" else ""
        front.answer(503 if waiting else 200, (waiting or "ok").encode() + b"\n", TEXT)


def running(fleet: Fleet) -> list[dict[str, Any]]:
    """The models in memory as each ready server told of them, with the server's name."""
    return [
        {**entry, "server": server.name}
        for server in fleet.snapshot.ready
        for entry in server.load.running
    ]


def servers(fleet: Fleet) -> list[dict[str, Any]]:
    """Every server with its state and the requests there, and those that left with some.

    Whoever stops a server learns from it when that cuts nobody off: it takes no new requests
    (its state is not Ready), and none are under way but of models that are `wedged`, which never
    answer there. `heard` are models that have answered lately.
    """
    known = [
        {
            "name": server.name,
            "url": server.endpoint.url,
            "state": server.state.value,
            "inFlight": server.load.in_flight,
            "models": server.load.models,
            "wedged": fleet.wedged(server.load),
            "heard": fleet.heard(server.load),
        }
        for server in fleet.snapshot.servers
    ]
    return known + [
        {
            "name": "",
            "url": url,
            "state": "Gone",
            "inFlight": load.in_flight,
            "models": load.models,
            "wedged": fleet.wedged(load),
            "heard": fleet.heard(load),
        }
        for url, load in fleet.left
    ]
