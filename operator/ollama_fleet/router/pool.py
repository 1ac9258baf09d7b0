"""Connections to one server, kept for reuse."""

import asyncio
import ssl
from typing import TYPE_CHECKING, Final

from ollama_fleet.router.forward import Opening
from ollama_fleet.router.upstream import Upstream

if TYPE_CHECKING:
    from ollama_fleet.router.snapshot import Endpoint

IDLE_SECONDS: Final = 30.0
IDLE_CONNECTIONS: Final = 64


class Pool:
    """Connections to one server: the one used last is used first, idle ones expire."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: "Endpoint") -> None:
        self._loop = loop
        self._idle: list[Upstream] = []
        self.tls = _tls_context(endpoint) if endpoint.tls else None
        self.endpoint = endpoint
        self.opening = Opening(endpoint)
        self.connections: set[Upstream] = set()
        self.closed = False

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    def serves(self, endpoint: "Endpoint") -> bool:
        """Whether connections from here are connections to `endpoint`, with its credentials."""
        mine = self.endpoint
        return (mine.url, mine.headers, mine.ca) == (endpoint.url, endpoint.headers, endpoint.ca)

    def take(self) -> Upstream | None:
        """An idle connection, if there is one."""
        while self._idle:
            upstream = self._idle.pop()
            if not upstream.closing:
                upstream.reused = True
                return upstream
        return None

    def put(self, upstream: Upstream) -> None:
        """Keep a connection for the next request."""
        if self.closed or len(self._idle) >= IDLE_CONNECTIONS:
            upstream.close()
            return
        upstream.idle_since = self._loop.time()
        self._idle.append(upstream)

    def forget(self, upstream: Upstream) -> None:
        """A connection is gone."""
        self.connections.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)

    def expire(self, now: float) -> None:
        """Close connections that have been idle for long; the oldest come first."""
        while self._idle and now - self._idle[0].idle_since > IDLE_SECONDS:
            self._idle.pop(0).close()

    def close(self) -> None:
        """Close idle connections now, and the others when their exchange is over."""
        self.closed = True
        while self._idle:
            self._idle.pop().close()


def _tls_context(endpoint: "Endpoint") -> ssl.SSLContext:
    context = endpoint.trust()
    context.set_alpn_protocols(["http/1.1"])
    return context
