"""Finds models that are wedged on a server, and has requests go elsewhere."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress

import aiohttp
import orjson

from ollama_fleet.router import wedge
from ollama_fleet.router.call import Call
from ollama_fleet.router.caller import ProbeError, answer_of, session_of
from ollama_fleet.router.errors import Api
from ollama_fleet.router.exchange import Exchange
from ollama_fleet.router.names import lookup_key
from ollama_fleet.router.places import FIRST_PAUSE, Place, Places
from ollama_fleet.router.probe import models_at
from ollama_fleet.router.snapshot import MEND_SECONDS, Endpoint, Fleet, Load, Server
from ollama_fleet.router.wedge import Sight, Stage, Waiting

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
_AGAIN = 0.25
_ONE_TOKEN = {"stream": False, "options": {"num_predict": 1}}
LAST_PAUSE = 600.0
"""Seconds between tries of a wedged model in the end, as each keeps it in memory."""


class Wedges:
    """Watches what becomes of requests; `exchanges` gives those under way."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fleet: Fleet,
        exchanges: Callable[[], Iterable[Exchange]],
    ) -> None:
        self._loop = loop
        self._fleet = fleet
        self._exchanges = exchanges
        self.places = Places(loop)
        self._streams: dict[Exchange, bool] = {}
        self._next = 0.0

    def look(self, now: float) -> None:
        """Called often; looks at what waits once a second."""
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        waiting, streams = self._under_way(now)
        self._forget()
        for (_, model), found in waiting.items():
            if (server := found[0].at) is not None:
                self.places.of(server, model)
        loading = {
            load
            for load, model in waiting
            if model not in self.places.known[load, model].server.loaded
        }
        for (load, model), place in list(self.places.known.items()):
            found = waiting.get((load, model), [])
            if model in load.wedged:
                self._try_again(place, now)
                continue
            sight = self._sight(place, found, streams[load, model], load in loading, now)
            match wedge.stage(sight, place.history.usual(now), now):
                case Stage.WEDGED:
                    self._accuse(place, found, now)
                case Stage.SUSPECT if place.check is None:
                    log.info("%s is slow to answer with %s: checking", place.server.name, model)
                    self._check(place, now)
                case Stage.CALM if place.check is not None and not sight.loaded:
                    place.forget_check()

    def close(self) -> None:
        """Stop checking."""
        for place in self.places.known.values():
            place.forget_check()

    def _under_way(
        self, now: float
    ) -> tuple[dict[tuple[Load, str], list[Exchange]], dict[tuple[Load, str], int]]:
        """By server and model, the requests that wait for a first byte, and how many answer."""
        waiting: dict[tuple[Load, str], list[Exchange]] = defaultdict(list)
        streams: dict[tuple[Load, str], int] = defaultdict(int)
        for exchange in self._exchanges():
            server, call = exchange.at, exchange.call
            if server is None or call.route.shows:
                continue
            key = (server.load, call.model)
            if call.began:
                streams[key] += 1
                server.load.heard[call.model] = now
            else:
                waiting[key].append(exchange)
        known = self._streams
        self._streams = {
            one: known[one] if one in known else _streams(one.call)
            for found in waiting.values()
            for one in found
            if now - one.call.sent >= wedge.LEAST / 4  # reading a body takes a while
        }
        return waiting, streams

    def _forget(self) -> None:
        """What is out of memory is neither wedged nor proven; what has left is nobody's concern."""
        for (load, model), place in list(self.places.known.items()):
            current = self._fleet.get(place.server.name)
            if current is None or current.load is not load:
                place.forget_check()
                del self.places.known[load, model]
                continue
            place.server = current
            if model not in current.loaded:
                self._gone(place)

    def _sight(
        self, place: Place, found: list[Exchange], streams: int, blocked: bool, now: float
    ) -> Sight:
        waits = [
            Waiting(one.call.sent, len(one.call.request.body), self._streams.get(one, True))
            for one in found
        ]
        checking = None
        if place.check is not None:
            checking = now - place.checked
            waits.append(Waiting(place.checked, 0, streams=True))
        server = place.server
        return Sight(
            loaded=place.model in server.loaded and not server.missed,
            answered=bool(place.proven),
            heard=server.load.heard.get(place.model, 0.0),
            left=place.left,
            waiting=tuple(waits),
            streams=streams,
            blocked=blocked,
            checking=checking,
        )

    def _accuse(self, place: Place, found: list[Exchange], now: float) -> None:
        place.forget_check()
        place.pause, place.try_at = FIRST_PAUSE, now + FIRST_PAUSE
        place.server.load.wedged[place.model] = now
        log.warning(
            "%s does not answer with %s any more, though it is in memory and all else answers: no "
            "more requests go there for it",
            place.server.name,
            place.model,
        )
        back = [exchange for exchange in found if exchange.wedged()]
        place.checked = now
        place.check = self._loop.create_task(self._mend(place, back))

    def _try_again(self, place: Place, now: float) -> None:
        if place.check is not None:
            usual = place.history.usual(now)
            if now - place.checked >= max(wedge.CHECK, wedge.patience((), usual)):
                place.forget_check()
                place.try_at = now + place.pause
                place.pause = min(2 * place.pause, LAST_PAUSE)
        elif now >= place.try_at:
            self._check(place, now)

    async def _mend(self, place: Place, back: Iterable[Exchange]) -> None:
        """Have the model taken out of memory, which frees what is stuck, now that no request of
        this router is there for it; then those that found no other server begin anew."""
        gone = False
        try:
            with suppress(ProbeError, TimeoutError):
                async with asyncio.timeout(MEND_SECONDS * 2 / 3):
                    await unload(place.server, place.model, place.embeds)
                    gone = True
        finally:
            place.check = None
            if gone:
                self._gone(place)
            else:
                log.warning(
                    "%s cannot be rid of %s: restart that server, if nobody does",
                    place.server.name,
                    place.model,
                )
            for exchange in back:
                exchange.again()

    def _gone(self, place: Place) -> None:
        place.proven = place.left = 0.0
        place.server.load.heard.pop(place.model, None)
        self._clear(place, "is out of memory")

    def _clear(self, place: Place, why: str) -> None:
        if place.server.load.wedged.pop(place.model, None) is not None:
            log.info("%s: %s %s; requests go there again", place.server.name, place.model, why)

    def _check(self, place: Place, now: float) -> None:
        place.checked = now
        place.check = self._loop.create_task(self._ask(place))

    async def _ask(self, place: Place) -> None:
        """The smallest request there is; whatever it is answered, the model is not wedged."""
        answered = False
        with suppress(ProbeError):
            answered = await asks(place.server, place.model, place.embeds)
        place.check = None
        if answered:
            place.server.load.heard[place.model] = self._loop.time()
            self._clear(place, "answers again")


async def asks(server: Server, model: str, embeds: bool) -> bool:
    """Have a model in a server's memory work a little; returns when it answers, if ever.

    False where the model is out of memory, so that this never starts a load. Raises `ProbeError`.
    """
    body: dict[str, object]
    name = _name(server, model)
    path, body = "/api/embed", {"model": name, "input": "a"}
    if not embeds:
        path = "/api/generate"
        body = {"model": name, "prompt": "a", "raw": True, **_ONE_TOKEN}
    async with session_of(server.endpoint) as http:
        if not await _listed(http, server.endpoint, model, wedge.CHECK):
            return False
        await _post(http, server.endpoint, path, body, None)
    return True


async def unload(server: Server, model: str, embeds: bool) -> None:
    """Have a model taken out of memory; returns when it is.

    That waits for requests of others there. Raises `ProbeError`.
    """
    body: dict[str, object] = {"model": _name(server, model), "keep_alive": 0}
    path = "/api/generate"
    if embeds:
        path, body = "/api/embed", {**body, "input": []}
    async with session_of(server.endpoint) as http:
        await _post(http, server.endpoint, path, body, MEND_SECONDS)
        while await _listed(http, server.endpoint, model, MEND_SECONDS):  # noqa: ASYNC110
            await asyncio.sleep(_AGAIN)


def _name(server: Server, model: str) -> str:
    installed = server.installed.get(model)
    return model if installed is None else installed.name


async def _post(
    http: aiohttp.ClientSession,
    endpoint: Endpoint,
    path: str,
    body: dict[str, object],
    seconds: float | None,
) -> None:
    """Whatever it is answered with."""
    try:
        await answer_of(http, endpoint, path, seconds, body)
    except ProbeError as error:
        if not error.answered:
            raise


async def _listed(
    http: aiohttp.ClientSession, endpoint: Endpoint, model: str, seconds: float
) -> bool:
    loaded = await models_at(lambda path: answer_of(http, endpoint, path, seconds), "/api/ps")
    return any(lookup_key(str(one["name"])) == model for one in loaded)


def _streams(call: Call) -> bool:
    """Whether its answer comes piece by piece, or is as short as an embedding."""
    if call.route.embeds:
        return True
    told = orjson.loads(call.request.body).get("stream")
    return told if isinstance(told, bool) else call.route.api is Api.OLLAMA
