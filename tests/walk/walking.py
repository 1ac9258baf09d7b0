"""One field changed and changed back, beside the same made from nothing; and what came of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ollama_fleet.kube import KubeError
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, POD, ROUTER, Kind
from tests.cluster.fleet import resource, standing
from tests.faults.ledger import difference
from tests.faults.waiting import until
from tests.walk.picture import picture, same, signs, unlike
from tests.walk.rows import Base, Change
from tests.walk.site import Site

WITHIN = 120.0
"""Seconds for each step, on a machine that has much else to do."""
QUIET = 2.0
"""Seconds without a write, which is rest."""
KINDS = {kind.kind: kind for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)}
NAMES = {"OllamaNode": "a", "ModelDistribution": "m", "Router": "chat"}
Picture = dict[str, Any]


@dataclass
class Outcome:
    """What came of a change; where all is well, nothing but the seconds and whether it was to be
    refused."""

    change: Change
    refused: bool = False
    unsettled: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    unrestored: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faults(self) -> dict[str, list[str]]:
        """What is not well, by oracle."""
        told = {
            "not converged": self.unsettled,
            "not shown": self.unseen,
            "not restored": self.unrestored,
            "not equal": self.unequal,
        }
        return {name: lines for name, lines in told.items() if lines}


class Unsettled(Exception):  # noqa: N818
    """What was asked for did not come about, or there is no rest."""


class Place:
    """A namespace with what is beside a base, where the resource itself is written to."""

    def __init__(self, site: Site, namespace: str, kind: str, base: Base) -> None:
        self._site = site
        self._namespace = namespace
        self._kind = kind
        self._base = base

    async def furnish(self) -> None:
        """Make what is beside it, and wait until that stands."""
        for given in self._base.beside:
            made = resource(given["kind"], given["name"], self._fill(given["spec"]))
            made["metadata"]["labels"] = given.get("labels", {})
            await self._site.grounds.apply(self._namespace, made)

    async def write(self, spec: Any) -> None:
        """Apply the resource; KubeError where the API server does not take it."""
        made = resource(self._kind, NAMES[self._kind], self._fill(spec))
        await self._site.grounds.apply(self._namespace, made)

    def _fill(self, spec: Any) -> Any:
        return self._site.fill(spec, self._namespace)

    async def picture(self, stands: str) -> Picture:
        """What there is once it stands so and the operator rests; Unsettled where it never does."""
        try:
            await until(partial(self._stands, stands), "it does not stand", WITHIN)
            rested = partial(self._site.rested, self._namespace)
            await until(lambda: rested() > QUIET, "the operator goes on writing", WITHIN)
        except AssertionError as error:
            raise Unsettled(f"{error}: {self._told()}") from None
        return await picture(self._site.grounds.ledger, self._namespace)

    async def becomes(
        self,
        stands: str,
        wanted: Callable[[Picture], list[str] | Awaitable[list[str]]],
        what: str,
    ) -> tuple[Picture, list[str]]:
        """The picture that lacks nothing of what is wanted, or the last, with what it lacks."""
        deadline = time.monotonic() + WITHIN / 2
        while True:
            taken = await self.picture(stands)
            found = wanted(taken)
            lacks = found if isinstance(found, list) else await found
            if not lacks or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        return taken, [f"{what}: {line}" for line in lacks]

    def same(self, taken: Picture) -> Picture:
        """Of a picture what is to be compared."""
        return same(taken, self._namespace)

    def _stands(self, stands: str) -> bool:
        ledger = self._site.grounds.ledger
        own = ledger.get(self._namespace, KINDS[self._kind], NAMES[self._kind])
        now = standing(own) if own else None
        if now is None or now.reason != stands or now.ready != (stands == "Ready"):
            return False
        if not all(self._follows(given) for given in self._base.beside):
            return False
        if not all(self._is_told(server) for server in self._servers()):
            return False
        return all(
            "deletionTimestamp" not in pod["metadata"]
            for pod in ledger.objects(self._namespace, POD)
        )

    def _follows(self, given: Any) -> bool:
        obj = self._site.grounds.ledger.get(self._namespace, _kind(given), given["name"])
        now = standing(obj) if obj else None
        return now is not None and (now.ready or now.stalled or now.reason == "Cordoned")

    def _servers(self) -> list[Any]:
        """Those that are Ready, as the status of their OllamaNodes has them."""
        nodes = self._site.grounds.ledger.objects(self._namespace, OLLAMA_NODE)
        told = [(node.get("status") or {}).get("servers") or () for node in nodes]
        return [one for servers in told for one in servers if one["state"] == "Ready"]

    def _is_told(self, server: Any) -> bool:
        """Whether the operator knows what it asks for now and then: what routers send there, and
        whether models that are to be in memory are."""
        routed = bool(self._site.grounds.ledger.objects(self._namespace, ROUTER))
        resident = set(server.get("resident") or ())
        return resident.issuperset(server.get("preloaded") or ()) and (
            not routed or "activeRequests" in server
        )

    def _told(self) -> list[str]:
        ledger = self._site.grounds.ledger
        told = [
            f"{kind} {obj['metadata']['name']}: {standing(obj)}"
            for kind in KINDS.values()
            for obj in ledger.objects(self._namespace, kind)
        ]
        last = [
            str(call)
            for _, call in self._site.proxy.writes
            if f"/namespaces/{self._namespace}/" in call.path
        ]
        return [*told, f"last writes: {last[-3:]}"]


def _kind(given: Any) -> Kind:
    return KINDS[given["kind"]]


async def walk(site: Site, changes: Iterable[Change], done: Callable[[Outcome], None]) -> None:
    """Changes of one base and one value before, one after the other in one namespace."""
    left = list(changes)
    while left:
        async with _settled(site, left[0]) as (place, before):
            if isinstance(before, Unsettled):
                done(Outcome(left.pop(0), unsettled=[f"before it: {before}"]))
                continue
            whole = True
            while left and whole:
                outcome = await _walked(site, place, before, left.pop(0))
                done(outcome)
                # what did not come back is no ground for the next
                whole = not outcome.faults and not outcome.change.final
                whole = whole and not outcome.change.forgets


@asynccontextmanager
async def _settled(site: Site, change: Change) -> AsyncIterator[tuple[Place, Picture | Unsettled]]:
    """A namespace in which the spec of before has come about."""
    async with site.namespace() as namespace:
        place = Place(site, namespace, change.kind, change.base)
        await place.furnish()
        await place.write(change.old)
        try:
            taken: Picture | Unsettled = await place.picture(change.base.stands)
        except Unsettled as error:
            taken = error
        yield place, taken


async def _walked(site: Site, place: Place, before: Picture, change: Change) -> Outcome:
    began = time.monotonic()
    outcome = Outcome(change)
    if change.refused:
        said = await _refusal(place.write(change.new))
        outcome.refused = change.refused in said
        if not outcome.refused:
            outcome.unseen.append(f"said instead of its refusal: {said or 'nothing'}")
    else:
        async with _afresh(site, change) as fresh:
            await _there_and_back(place, before, change, outcome, fresh)
    outcome.seconds = time.monotonic() - began
    return outcome


async def _there_and_back(
    place: Place, before: Picture, change: Change, outcome: Outcome, fresh: asyncio.Future[Place]
) -> None:
    kind, name = change.kind, NAMES[change.kind]
    old = place.same(before)

    def unseen(taken: Picture) -> list[str]:
        if not signs(unlike(old, place.same(taken)), kind, name):
            return ["nothing but its spec differs"]
        lines = signs(unlike(before, taken), kind, name)
        found = any(re.search(change.evidence, line) for line in lines)
        return [] if found else [f"{change.evidence!r} is in none of: {lines}"]

    try:
        await place.write(change.new)
        _, outcome.unseen = await place.becomes(change.stands, unseen, "shows")
        await _compare(place, change, await fresh, outcome)
        await _back(place, change, old, outcome)
    except (Unsettled, KubeError) as error:
        outcome.unsettled.append(str(error))


async def _compare(place: Place, change: Change, fresh: Place, outcome: Outcome) -> None:
    async def unequal(taken: Picture) -> list[str]:
        wanted = fresh.same(await fresh.picture(change.stands))
        return _but_for(difference(wanted, place.same(taken)), change.remembers)

    _, outcome.unequal = await place.becomes(change.stands, unequal, "from nothing")


async def _back(place: Place, change: Change, old: Picture, outcome: Outcome) -> None:
    if change.final:
        said = await _refusal(place.write(change.old))
        outcome.refused = change.final in said
        if not outcome.refused:
            outcome.unrestored.append(f"said instead of its refusal: {said or 'nothing'}")
        return
    await place.write(change.old)

    def unrestored(taken: Picture) -> list[str]:
        return _but_for(difference(old, place.same(taken)), change.forgets)

    _, outcome.unrestored = await place.becomes(change.base.stands, unrestored, "back")


@asynccontextmanager
async def _afresh(site: Site, change: Change) -> AsyncIterator[asyncio.Future[Place]]:
    """Meanwhile, a namespace where nothing but the changed spec ever was: once that stands."""
    over = asyncio.Event()
    ready: asyncio.Future[Place] = asyncio.get_running_loop().create_future()

    async def live() -> None:
        async with site.namespace() as namespace:
            place = Place(site, namespace, change.kind, change.base)
            try:
                await place.furnish()
                await place.write(change.new)
                await place.picture(change.stands)
                ready.set_result(place)
            except (Unsettled, KubeError) as error:
                ready.set_exception(Unsettled(f"from nothing: {error}"))
                ready.exception()  # whoever waits for it may have ended before
            await over.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(live())
        try:
            yield ready
        finally:
            over.set()


def _but_for(lines: list[str], known: Iterable[str]) -> list[str]:
    """Differences, but for those that are known and the count of generations."""
    left = (line for line in lines if "observedGeneration" not in line)
    return [line for line in left if not any(re.search(one, line) for one in known)]


async def _refusal(writing: Awaitable[None]) -> str:
    try:
        await writing
    except KubeError as error:
        return str(error)
    return ""
