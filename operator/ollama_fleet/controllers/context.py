"""What every reconciler is given."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.loop import Loop, Result
from ollama_fleet.controllers.offers import Offers
from ollama_fleet.controllers.remembered import Remembered
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Kind, Kube
from ollama_fleet.plan.devices import Devices

log = logging.getLogger(__name__)

Reconcile = Callable[[str, str], Awaitable[Result]]
"""Reconciles the object of a namespace and a name."""

Reconcilers = dict[Kind, Reconcile]


class Background:
    """Tasks that outlive one reconcile, such as pulls; all end with the operator."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside everything else; its failure is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def stop(self) -> None:
        """Cancel every task and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: failed by a defect", task.get_name(), exc_info=error)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator is told by its command line and environment."""

    namespace: str = "default"
    """The operator's own namespace."""
    namespaces: tuple[str, ...] = ()
    """The namespaces it serves; none means all."""
    image: str = ""
    """The image of this program, which routers run too."""
    mirror: Mirror | None = None
    """The mirror that servers pull through."""
    router_cluster_role: str = "ollama-fleet-router"
    """The ClusterRole that lets routers see servers."""
    router_role: str = ""
    """A Role that does in each namespace, where there are no rights to a ClusterRole."""
    console: str = ""
    """Where the console answers, as a URL; empty: there is none."""
    connect_timeout: float = 2.0
    """Seconds to wait for a connection to an Ollama server or a registry."""
    request_timeout: float = 10.0
    """Seconds to wait for a whole answer that is no stream."""
    probe_interval: float = 30.0
    """Seconds between looks at a server that is well, and at the Secrets it is reached by."""
    resync_interval: float = 300.0
    """Seconds between lists of everything, which find what watches missed."""
    max_parallel_pulls: int | None = None
    """Pulls at once, over all ModelDistributions; None: by the number of servers."""
    offline_after: float = 60.0
    """Seconds without an answer after which a server is Offline."""
    deployment: str = ""
    """The Deployment in the operator's own namespace that runs it, where one does."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a reconciler reads, and the two ways it acts: `kube` and `background`."""

    kube: Kube
    store: Store
    loop: Loop
    clock: Clock
    random: Callable[[], float]
    settings: Settings = field(default_factory=Settings)
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    background: Background = field(default_factory=Background)
    offers: Offers = field(default_factory=Offers)
    """What GPUs machines are believed to offer."""
    devices: Remembered[Devices] = field(default_factory=Remembered)
    """The GPUs that drivers publish."""
