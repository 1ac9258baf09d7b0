"""Deleting models that no ModelDistribution wants, while nothing uses them."""

import logging
from collections.abc import Callable, Sequence

from ollama_fleet.controllers.probes import Probes, client_for
from ollama_fleet.controllers.pulls import TIMEOUT, Pulls
from ollama_fleet.controllers.traffic import Traffic
from ollama_fleet.ollama.errors import ModelNotFound, OllamaError
from ollama_fleet.plan.prune import Removal, in_use

log = logging.getLogger(__name__)


class Pruning:
    """Carries out what plan.prune decides."""

    def __init__(self, probes: Probes, pulls: Pulls, traffic: Traffic) -> None:
        self._probes = probes
        self._pulls = pulls
        self._traffic = traffic

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
            if still(one) and await self._delete(namespace, one):
                done.append(one)
                touched.add((f"{namespace}/{one.ollamanode}", one.url))
        for group, url in touched:
            await self._probes.refresh(group, url)
        return done

    async def _delete(self, namespace: str, one: Removal) -> bool:
        group = f"{namespace}/{one.ollamanode}"
        access = self._probes.access(group, one.url)
        try:
            async with client_for(one.url, access, TIMEOUT) as client:
                await client.delete(one.model)
        except ModelNotFound:
            return False
        except OllamaError as error:
            why = access.hide(str(error))
            log.warning("cannot delete %s on %s: %s", one.model, one.server, why)
            return False
        log.info("deleted %s: no ModelDistribution wants it there", one)
        return True
