"""Bringing models back into the memory of servers that were replaced."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.probes import Probes, client_for
from ollama_fleet.ollama.errors import OllamaError
from ollama_fleet.plan.result import LoadOrder

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Failures of a load after which they are told."""
FIRST_PAUSE, LAST_PAUSE = 5.0, 300.0
"""Seconds before a load that failed is tried again."""
TIMEOUT = 3600.0
"""Seconds for one load; the server itself gives up after server.loadTimeout."""
_CONNECT = 10.0


@dataclass
class _Place:
    """A server, and what it is still to load: one model after the other."""

    url: str
    models: list[str]
    changed: Callable[[], None]
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None

    def count(self, model: str) -> int:
        """How often it has failed to load."""
        return self.failures.get(model, (0, ""))[0]


class Loads:
    """Loads under way, by OllamaNode (namespace/name) and URL."""

    def __init__(self, background: Background, probes: Probes, clock: Clock) -> None:
        self._background = background
        self._probes = probes
        self._clock = clock
        self._groups: dict[str, dict[str, _Place]] = {}

    def want(self, group: str, orders: Collection[LoadOrder], changed: Callable[[], None]) -> None:
        """Load these and no others; ``changed`` hears of every end."""
        known = self._groups.pop(group, {})
        wanted: dict[str, _Place] = {}
        for order in orders:
            place = wanted.get(order.url)
            if place is None:
                place = wanted[order.url] = known.get(order.url) or _Place(order.url, [], changed)
                place.models = []
            place.models.append(order.model)
        for url, place in known.items():
            if url not in wanted and place.task is not None:
                place.task.cancel()
        for url, place in wanted.items():
            place.changed = changed
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
        while place.models:
            # what failed lets the others go first
            model = min(place.models, key=place.count)
            if count := place.count(model):
                pause = min(LAST_PAUSE, FIRST_PAUSE * 2 ** (count - 1))
                await self._clock.wait(asyncio.Event(), pause)
            access = self._probes.access(group, place.url)
            try:
                async with client_for(place.url, access, _CONNECT) as client:
                    await client.load(model, keep_alive=None, timeout=TIMEOUT)
            except OllamaError as error:
                place.failures[model] = (count + 1, access.hide(str(error)))
                log.warning("cannot load %s at %s: %s", model, place.url, error)
            else:
                log.info("loaded again: %s at %s", model, place.url)
                place.failures.pop(model, None)
                place.models = [one for one in place.models if one != model]
                await self._probes.refresh(group, place.url)
            place.changed()
