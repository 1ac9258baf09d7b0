"""What the connections of one listener share: their handler, their limits, and their end."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from ollama_fleet.router.errors import Api, Refusal
from ollama_fleet.router.framing import Request

if TYPE_CHECKING:
    from ollama_fleet.router.front import Front


class Handler(Protocol):
    """What is done with requests; one for tenants, one for operators."""

    def api_of(self, request: Request) -> Api:
        """The API in whose shape errors are told."""

    def admit(self, request: Request) -> None:
        """Look at the head, before any of the body is waited for; may raise `Refusal`."""

    def handle(self, front: "Front", request: Request) -> None:
        """Answer a whole request, now or later; may raise `Refusal`."""

    def refused(self, front: "Front", request: Request, refusal: Refusal) -> None:
        """Hear of a refusal that either of the two raised."""


class Frontage:
    """What all connections of one listener share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        *,
        header_bytes: int,
        body_bytes: int,
        connections: int,
    ) -> None:
        self.loop = loop
        self.handler = handler
        self.header_bytes = header_bytes
        self.body_bytes = body_bytes
        self.connections = connections
        self.fronts: set[Front] = set()
        self.draining = False
        self.drained = asyncio.Event()

    def expire(self, now: float) -> None:
        """End what has taken too long; called a few times a second."""
        for front in [front for front in self.fronts if front.deadline <= now]:
            front.expired()

    def drain(self) -> None:
        """Close idle connections now, the others after their current answer."""
        self.draining = True
        if not self.fronts:
            self.drained.set()
        for front in list(self.fronts):
            front.drain()

    def abort(self) -> None:
        """Cut every connection."""
        for front in list(self.fronts):
            front.abort()
