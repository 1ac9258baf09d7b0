"""One field changed and changed back, beside the same made from nothing; and what came of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from ollama_fleet.kube import KubeError
from tests.faults.ledger import difference
from tests.walk.picture import signs, unlike
from tests.walk.place import NAMES, Picture, Place, Unsettled
from tests.walk.rows import Change
from tests.walk.site import Site


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
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds by step."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Take the time of what is done within."""
        began = time.monotonic()
        yield
        self.steps[name] = time.monotonic() - began

    @property
    def seconds(self) -> float:
        """Seconds in all."""
        return sum(self.steps.values())

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
    outcome = Outcome(change)
    if change.refused:
        said = await _refusal(place.write(change.new))
        outcome.refused = change.refused in said
        if not outcome.refused:
            outcome.unseen.append(f"said instead of its refusal: {said or 'nothing'}")
    else:
        async with _afresh(site, change) as fresh:
            await _there_and_back(place, before, change, outcome, fresh)
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
        with outcome.step("shown"):
            await place.write(change.new)
            outcome.unseen = await place.lacks(change.stands, unseen, "shows")
        with outcome.step("equal"):
            await _compare(place, change, await fresh, outcome)
        with outcome.step("restored"):
            await _back(place, change, old, outcome)
    except (Unsettled, KubeError) as error:
        outcome.unsettled.append(str(error))


async def _compare(place: Place, change: Change, fresh: Place, outcome: Outcome) -> None:
    async def unequal(taken: Picture) -> list[str]:
        wanted = fresh.same(await fresh.picture(change.stands))
        return _but_for(difference(wanted, place.same(taken)), change.remembers)

    outcome.unequal = await place.lacks(change.stands, unequal, "from nothing")


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

    outcome.unrestored = await place.lacks(change.base.stands, unrestored, "back")


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
