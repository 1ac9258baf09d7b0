"""Deleting models that no ModelDistribution wants, while nothing uses them, and second names."""

import logging
from collections.abc import Callable, Sequence

from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.pulls import Pulls
from ollama_fleet.controllers.traffic import Traffic
from ollama_fleet.ollama.errors import ModelNotFound, OllamaError
from ollama_fleet.plan.leftovers import Leftover
from ollama_fleet.plan.prune import Removal, in_use

log = logging.getLogger(__name__)


class Pruning:
    """Carries out what plan.prune and plan.leftovers decide."""

    def __init__(
        self, background: Background, probes: Probes, pulls: Pulls, traffic: Traffic
    ) -> None:
        self._background = background
        self._probes = probes
        self._pulls = pulls
        self._traffic = traffic
        self._tidying: set[Leftover] = set()

    async def carry_out(
        self, namespace: str, removals: Sequence[Removal], still: Callable[[Removal], bool]
    ) -> list[Removal]:
        """Delete what nothing uses; what was deleted. ``still`` says just before each whether
        it is to go after all: much may have changed meanwhile."""
        if not removals:
            return []
        reports = await self._traffic.reports(namespace)
        done, touched = [], set()
        for one in removals:
            if in_use(one, reports) or one.server in self._pulls.arriving(namespace):
                continue
            group = f"{namespace}/{one.ollamanode}"
            if still(one) and await self._delete(group, one.url, one.model, one.server):
                log.info("deleted %s: no ModelDistribution wants it there", one)
                done.append(one)
                touched.add((group, one.url))
        for group, url in touched:
            await self._probes.refresh(group, url)
        return done

    def tidy(self, namespace: str, leftover: Leftover) -> None:
        """Remove a second name of a model, unless that is under way."""
        if leftover not in self._tidying:
            self._tidying.add(leftover)
            name = f"remove {leftover.name} from {leftover.server}"
            self._background.start(name, self._remove(namespace, leftover))

    async def _remove(self, namespace: str, one: Leftover) -> None:
        try:
            # where it stays, the next probe sees it again, and it is tried again then
            if await self._delete(f"{namespace}/{one.ollamanode}", one.url, one.name, one.server):
                log.info("%s removed from %s: a second name", one.name, one.server)
        finally:
            self._tidying.discard(one)

    async def _delete(self, group: str, url: str, model: str, server: str) -> bool:
        """Whether the model was there, and no longer is."""
        try:
            async with self._probes.client(group, url) as client:
                await client.delete(model)
        except ModelNotFound:
            return False
        except OllamaError as error:
            log.warning("cannot delete %s on %s: %s", model, server, error)
            return False
        return True
