"""Bringing models into the memory of servers, and letting go of those that were kept there."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.ollama.errors import OllamaError
from ollama_fleet.plan.result import LoadOrder

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Failures of a load after which they are told."""
FIRST_PAUSE, LAST_PAUSE = 5.0, 300.0
"""Seconds before a load that failed is tried again, and between loads of the same model."""
FORGIVEN = 900.0
"""Seconds after which an earlier load of the same model counts no more."""
TIMEOUT = 3600.0
"""Seconds for one load; the server itself gives up after server.loadTimeout."""


@dataclass
class _Place:
    """A server, and what it is still to load: one model after the other."""

    url: str
    changed: Callable[[], None]
    models: dict[str, int | str | None] = field(default_factory=dict)
    """With the keep_alive of each."""
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self, model: str) -> int:
        """How often it has failed to load."""
        return self.failures.get(model, (0, ""))[0]


class _Done(NamedTuple):
    """How often within a while a model was loaded to be kept so, and when it last was."""

    keep_alive: int | str | None
    times: int
    last: float


class Loads:
    """Loads under way, by OllamaNode (namespace/name) and URL."""

    def __init__(self, background: Background, probes: Probes, clock: Clock) -> None:
        self._background = background
        self._probes = probes
        self._clock = clock
        self._groups: dict[str, dict[str, _Place]] = {}
        self._done: dict[tuple[str, str], _Done] = {}
        """By URL and model."""

    def want(self, group: str, orders: Collection[LoadOrder], changed: Callable[[], None]) -> None:
        """Load these and no others; ``changed`` hears of every end."""
        known = self._groups.pop(group, {})
        wanted: dict[str, _Place] = {}
        for order in orders:
            place = wanted.get(order.url)
            if place is None:
                place = wanted[order.url] = known.get(order.url) or _Place(order.url, changed)
                place.models = {}
            place.models[order.model] = order.keep_alive
        for url, place in known.items():
            if url not in wanted and place.task is not None:
                place.task.cancel()
        for url, place in wanted.items():
            place.changed = changed
            place.news.set()
            if place.task is None or place.task.done():
                work = self._run(group, place)
                place.task = self._background.start(f"loads at {url}", work)
        if wanted:
            self._groups[group] = wanted

    def failures(self, group: str) -> Mapping[tuple[str, str], str]:
        """Why models will not load, by URL and model; those that failed ATTEMPTS times."""
        return {
            (url, model): why
            for url, place in self._groups.get(group, {}).items()
            for model, (count, why) in place.failures.items()
            if count >= ATTEMPTS
        }

    async def _run(self, group: str, place: _Place) -> None:
        failed_at: dict[str, float] = {}
        while place.models:
            # what failed, or was put out of memory again, lets the others go first
            due = {model: self._due(place, model, failed_at) for model in place.models}
            model = min(due, key=lambda model: due[model])
            if (pause := due[model] - self._clock.monotonic()) > 0:
                place.news.clear()
                await self._clock.wait(place.news, pause)
                continue
            keep_alive = place.models[model]
            try:
                async with self._probes.client(group, place.url) as client:
                    await client.load(model, keep_alive, TIMEOUT)
            except OllamaError as error:
                failed_at[model] = self._clock.monotonic()
                place.failures[model] = (place.count(model) + 1, str(error))
                log.warning("cannot load %s at %s: %s", model, place.url, error)
            else:
                kept = "" if keep_alive is None else f", with keep_alive {keep_alive}"
                log.info("loaded: %s at %s%s", model, place.url, kept)
                self._note(place.url, model, keep_alive)
                place.failures.pop(model, None)
                place.models.pop(model, None)
                await self._probes.refresh(group, place.url)
            place.changed()

    def _due(self, place: _Place, model: str, failed_at: Mapping[str, float]) -> float:
        """When to load it. Later and later where it was loaded before: whoever put it out of
        memory would do so again."""
        if count := place.count(model):
            return failed_at.get(model, 0.0) + _pause(count)
        done = self._done.get((place.url, model))
        # what is asked for otherwise than before is nobody else's doing
        if done is None or done.keep_alive != place.models[model]:
            return 0.0
        return done.last + _pause(done.times)

    def _note(self, url: str, model: str, keep_alive: int | str | None) -> None:
        now = self._clock.monotonic()
        self._done = {key: one for key, one in self._done.items() if now - one.last < FORGIVEN}
        before = self._done.get((url, model))
        times = before.times if before is not None and before.keep_alive == keep_alive else 0
        self._done[url, model] = _Done(keep_alive, times + 1, now)


def _pause(times: int) -> float:
    return min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** min(times - 1, 16))
