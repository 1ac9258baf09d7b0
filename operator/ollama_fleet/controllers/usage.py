"""What pods use, asked of the cluster's metrics where it serves them."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from ollama_fleet.api.servers import OLLAMANODE_LABEL
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.kube import Kube, KubeError
from ollama_fleet.kube.kinds import POD_METRICS
from ollama_fleet.plan.usage import Usage, usage_by_pod

log = logging.getLogger(__name__)

KNOWN, FAILED = 30.0, 600.0
"""Seconds for which figures stand, and until it is looked again where there were none."""
TIMEOUT = 2.0
"""Seconds they may take: nothing waits for them longer."""


@dataclass(frozen=True)
class _Kept:
    usage: Mapping[str, Usage] | None
    until: float


class PodUsage:
    """The figures of each namespace's servers; without a metrics API there are none."""

    def __init__(self, kube: Kube, clock: Clock) -> None:
        self._kube = kube
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    async def of(self, namespace: str) -> Mapping[str, Usage] | None:
        """By the name of the pod, some seconds old; None where nobody tells."""
        kept = self._kept.get(namespace)
        if kept is None or kept.until <= self._clock.monotonic():
            kept = self._kept[namespace] = await self._ask(namespace)
        return kept.usage

    async def _ask(self, namespace: str) -> _Kept:
        usage: Mapping[str, Usage] | None
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await self._kube.list(POD_METRICS, namespace, OLLAMANODE_LABEL)
            usage, seconds = usage_by_pod(found), KNOWN
        except (KubeError, TimeoutError, ValueError) as error:
            log.debug("no metrics of pods in %s: %s", namespace, error)
            usage, seconds = None, FAILED
        return _Kept(usage, self._clock.monotonic() + seconds)
