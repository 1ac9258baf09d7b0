"""What has become of requests for each model on each server; whether one is wedged shows in it."""

import asyncio
from typing import Final

from ollama_fleet.router.call import Call
from ollama_fleet.router.snapshot import Load, Server
from ollama_fleet.router.usual import History

FIRST_PAUSE: Final = 30.0
"""Seconds until a wedged model is tried, and then less and less often."""


class Place:
    """A model on a server."""

    __slots__ = (
        "check",
        "checked",
        "embeds",
        "history",
        "left",
        "model",
        "pause",
        "proven",
        "server",
        "try_at",
    )

    def __init__(self, server: Server, model: str, history: History) -> None:
        self.server = server
        self.model = model
        self.history = history  # of the model, on all servers
        self.left = 0.0
        self.proven = 0.0  # when it first answered since it is in memory; 0: it has not
        self.embeds = False
        self.check: asyncio.Task[None] | None = None
        self.checked = 0.0
        self.pause = FIRST_PAUSE
        self.try_at = 0.0

    def forget_check(self) -> None:
        """Check it no longer."""
        if self.check is not None:
            self.check.cancel()
            self.check = None


class Places:
    """Every model on every server that has been asked for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._histories: dict[str, History] = {}
        self.known: dict[tuple[Load, str], Place] = {}

    def of(self, server: Server, model: str) -> Place:
        """The model on the server."""
        place = self.known.get((server.load, model))
        if place is None:
            history = self._histories.get(model)
            if history is None:
                history = self._histories[model] = History(self._loop.time())
            place = self.known[server.load, model] = Place(server, model, history)
        return place

    def over(self, call: Call) -> None:
        """A call has ended. Every one comes here, so little is done."""
        server = call.server
        if server is None or not call.sent or call.route.shows:
            return
        reason = call.reason
        if reason != "ClientLeft" and call.status != 200:
            return
        load, now = server.load, call.ended
        place = self.known.get((load, call.model)) or self.of(server, call.model)
        place.embeds = call.route.embeds
        if reason == "ClientLeft":
            place.left = now
        if not call.began:
            return
        load.heard[call.model] = now
        if not place.proven:
            place.proven = now
        elif call.sent >= place.proven and not reason:
            sent, size = call.sent, len(call.request.body)
            place.history.answered(now, call.began - sent, now - sent, size, call.streamed)
