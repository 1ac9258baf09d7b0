"""The faults: each says when it strikes, and what comes through instead."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Literal

from ollama_fleet.kube.kinds import Object
from tests.faults.calls import Call, Reply, refusal, status_object
from tests.faults.proxy import Dropped, Fault

Moment = Literal["before", "after"]


class Cut(Fault):
    """The operator dies at one of its writes: before that is passed on, or when it is done and
    the answer is on its way.

    The write is the `nth` (from 1) of those that read `what`.
    """

    def __init__(self, what: str, nth: int, moment: Moment, kill: Callable[[], None]) -> None:
        self._what = what
        self._left = nth
        self._moment = moment
        self._kill = kill

    def __str__(self) -> str:
        return f"killed {self._moment} {self._what}"

    def _now(self, call: Call) -> bool:
        if not call.writes or self.met or str(call) != self._what:
            return False
        self._left -= 1
        return self._left == 0

    async def request(self, call: Call) -> Reply | None:
        if self._moment == "before" and self._now(call):
            self._strike()
        return None

    async def reply(self, call: Call, reply: Reply) -> Reply:
        if self._moment == "after" and self._now(call):
            self._strike()
        return reply

    def _strike(self) -> None:
        self.met = True
        self._kill()
        raise Dropped


class Hide(Fault):
    """The operator is never sent one event: the `nth` (from 1) of a type and a kind."""

    def __init__(self, what: str, nth: int) -> None:
        self._what = what
        self._left = nth

    async def event(self, call: Call, event: Object) -> list[Object]:
        if told(event) != self._what or self.met:
            return [event]
        self._left -= 1
        self.met = self._left == 0
        return [] if self.met else [event]


class Deaf(Fault):
    """Watches stand, and tell nothing."""

    async def event(self, call: Call, event: Object) -> list[Object]:
        self.met = True
        return []


class Severed(Fault):
    """While `on`, nothing comes through: connections break."""

    on = False

    async def request(self, call: Call) -> Reply | None:
        if self.on:
            raise Dropped
        return None

    async def reply(self, call: Call, reply: Reply) -> Reply:
        if self.on:
            raise Dropped
        return reply

    async def event(self, call: Call, event: Object) -> list[Object]:
        if self.on:
            raise Dropped
        return [event]


class Late(Fault):
    """Events come that many seconds late; so do all requests by a tenth of it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def request(self, call: Call) -> Reply | None:
        self.met = True
        await asyncio.sleep(self._seconds / 10)
        return None

    async def event(self, call: Call, event: Object) -> list[Object]:
        await asyncio.sleep(self._seconds)
        return [event]


class Torn(Fault):
    """Every watch breaks off after so many events, the last of which is lost."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._seen: Counter[str] = Counter()

    async def event(self, call: Call, event: Object) -> list[Object]:
        self._seen[call.path] += 1
        if self._seen[call.path] % self._after:
            return [event]
        self.met = True
        raise Dropped


class Expired(Fault):
    """410 where a watch goes on, after so many events of it: within it, or as the answer to the
    next, when it has broken off."""

    def __init__(self, after: int, *, within: bool) -> None:
        self._after = after
        self._within = within
        self._seen: Counter[str] = Counter()
        self._broken: set[str] = set()

    async def request(self, call: Call) -> Reply | None:
        if not call.watches or call.path not in self._broken:
            return None
        self._broken.discard(call.path)
        self.met = True
        return refusal(410, "Expired")

    async def event(self, call: Call, event: Object) -> list[Object]:
        self._seen[call.path] += 1
        if self._seen[call.path] % self._after:
            return [event]
        if not self._within:
            self._broken.add(call.path)
            raise Dropped
        self.met = True
        return [{"type": "ERROR", "object": status_object(410, "Expired")}]


class Refuse(Fault):
    """Every so-manieth request of each sort is refused."""

    def __init__(
        self, status: int, reason: str, every: int, *, retry_after: int | None = None
    ) -> None:
        self._reply = refusal(status, reason, retry_after)
        self._conflict = status == 409
        self._every = every
        self._seen: Counter[str] = Counter()

    async def request(self, call: Call) -> Reply | None:
        if call.kind is None or (self._conflict and not call.writes):
            return None
        self._seen[call.method] += 1
        if self._seen[call.method] % self._every:
            return None
        self.met = True
        return self._reply


class Lost(Fault):
    """Every so-manieth write is done, and its answer lost."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._seen = 0

    async def reply(self, call: Call, reply: Reply) -> Reply:
        if call.writes:
            self._seen += 1
            if self._seen % self._every == 0:
                self.met = True
                raise Dropped
        return reply


class Stale(Fault):
    """Every other list shows what an earlier one of the same objects did."""

    def __init__(self) -> None:
        self._earlier: dict[str, Reply] = {}
        self._stale: set[str] = set()

    async def reply(self, call: Call, reply: Reply) -> Reply:
        if not call.lists or reply.status != 200:
            return reply
        which = f"{call.path} {call.query.get('labelSelector')}"
        earlier = self._earlier.get(which)
        if earlier is None or which in self._stale:
            self._stale.discard(which)
            self._earlier[which] = reply
            return reply
        self._stale.add(which)
        self.met = True
        return earlier


def told(event: Object) -> str:
    """An event in the words it is counted by: `MODIFIED Pod`."""
    return f"{event['type']} {event['object'].get('kind')}"
