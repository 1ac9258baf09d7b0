"""What pods use, asked of the cluster's metrics where it serves them."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ollama_fleet.api.servers import OLLAMANODE_LABEL
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.kube import Kube, KubeError, Object
from ollama_fleet.kube.kinds import POD_METRICS
from ollama_fleet.plan.servers import pod_ready
from ollama_fleet.plan.usage import Usage, usage_by_pod

log = logging.getLogger(__name__)

KNOWN, FAILED = 30.0, 600.0
"""Seconds for which figures stand, and until it is looked again where there were none."""
EVERY = 360.0
"""Seconds until figures are told anew: a little more than a server's lastSeen may be old, as they
are written with others alone."""
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

    async def look(self, namespace: str, pods: Collection[Object]) -> float | None:
        """Ask again if that is due; seconds until the next look is worth it, None: never."""
        if not pods:
            return None
        kept = self._kept.get(namespace)
        if kept is None or kept.until <= self._clock.monotonic():
            kept = self._kept[namespace] = await self._ask(namespace)
        if kept.usage is None:
            return None
        told = kept.usage.keys() >= {pod["metadata"]["name"] for pod in pods if pod_ready(pod)}
        return EVERY if told else KNOWN

    def of(self, namespace: str) -> Mapping[str, Usage]:
        """What they used at the latest look, by the name of the pod; empty where nobody tells."""
        kept = self._kept.get(namespace)
        return (kept and kept.usage) or {}

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
