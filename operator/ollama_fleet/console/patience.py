"""How long clients may take, and how many streams of events each of them may hold open."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ollama_fleet.console.identity import Person
from ollama_fleet.console.refusal import Refusal

HEAD = 10.0
"""Seconds for the head of a request, from the connection or the first of its bytes on."""
BODY = 20.0
"""Seconds for a body."""
STREAMS = 32
"""Streams of events that one person may have open."""
NOBODY = 64
"""The same for all those together whom nobody knows."""


class Protocol(H11Protocol):
    """HTTP whose clients send the heads of their requests in time, or else are left: connections
    that ask for nothing would keep others out."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for."""
        self._wait(of_it=False)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Wait on until the head is complete."""
        super().data_received(data)
        cycle: Any = self.cycle
        asked = cycle is not None and not cycle.response_complete
        if asked:
            self._wait(of_it=False)
        elif self._late is None:
            self._wait()

    def _wait(self, of_it: bool = True) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(HEAD, self.transport.close) if of_it else None


class Places:
    """Streams that are open, by whose they are."""

    def __init__(self) -> None:
        self._taken: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def one(self, person: Person) -> Iterator[None]:
        """One of them; raises `Refusal` (503) where the person has too many."""
        key = (person.name, person.uid)
        most = NOBODY if person.anonymous else STREAMS
        if self._taken[key] >= most:
            whose = "All who send no token" if person.anonymous else person.name
            raise Refusal(
                503,
                f"{whose} may have {most} streams of events open at a time, and so many are: close "
                "one first",
                headers={"Retry-After": "10"},
            )
        self._taken[key] += 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]
