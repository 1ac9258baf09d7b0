"""From nothing to a running operator, and back."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Any

from ollama_fleet.controllers.beside import beside
from ollama_fleet.controllers.clock import Clock, SystemClock
from ollama_fleet.controllers.context import Context, Reconcilers, Settings
from ollama_fleet.controllers.endpoints import Endpoints
from ollama_fleet.controllers.feed import Feed
from ollama_fleet.controllers.leader import Leader, LeadershipLostError
from ollama_fleet.controllers.loop import Key, Loop, Result
from ollama_fleet.controllers.metrics import Metrics
from ollama_fleet.controllers.store import Store
from ollama_fleet.controllers.wiring import Watches, WatchesLostError
from ollama_fleet.kube import ConfigError, Kube, KubeError, NotFound
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER

log = logging.getLogger(__name__)

Build = Callable[[Context], Reconcilers]

_STANDSTILL = 60.0
_FIRST_RETRY, _LAST_RETRY = 1.0, 30.0
_GOODBYE = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    host: str = "0.0.0.0"  # noqa: S104 (the kubelet probes the pod's address)
    port: int = 8080
    leader_elect: bool = True
    identity: str = "ollama-fleet-operator"
    settings: Settings = field(default_factory=Settings)


class Operator:
    """One run of the operator; `build` makes the reconcilers."""

    def __init__(self, options: Options, build: Build, clock: Clock | None = None) -> None:
        self._options = options
        self._build = build
        self._clock = clock or SystemClock()
        self._random = SystemRandom().random
        self._metrics = Metrics()
        self._stopping = asyncio.Event()
        self._waiting_for: str | None = "the API server"
        self._loop: Loop | None = None
        self._feed: Feed | None = None

    async def run(self) -> int:
        """Until SIGTERM or SIGINT (0), or what it cannot live with (1, and the reason logged)."""
        self._catch_signals()
        options = self._options
        endpoints = Endpoints(
            options.host, options.port, self._metrics.registry, self._alive, self._ready
        )
        try:
            await endpoints.start()
        except OSError as error:
            log.error(
                "cannot serve on %s port %s: %s; choose another --host or --port",
                options.host,
                options.port,
                error.strerror,
            )
            return 1
        try:
            return await self._until_stopped()
        except ConfigError as error:
            log.error("%s", error)
        except LeadershipLostError as error:
            log.error("no longer the leader, stopping: %s", error)
        except WatchesLostError as error:
            log.error("the watches ended (why is above), stopping: %s", error)
        finally:
            await endpoints.stop()
        return 1

    def stop(self) -> None:
        """Let `run()` end soon, in good order."""
        self._stopping.set()

    async def _until_stopped(self) -> int:
        work = asyncio.create_task(self._work(), name="work")
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not work.done():
            log.info("stopping")
            work.cancel()
            await asyncio.wait({work})
        if work.cancelled():
            return 0
        if (error := work.exception()) is not None:
            raise error
        return 0 if self._stopping.is_set() else 1

    async def _work(self) -> None:
        async with await Kube.connect() as kube:
            await self._wait_until_served(kube)
            leader = Leader(
                kube,
                self._clock,
                self._random,
                self._options.identity,
                self._options.settings.namespace,
                deployment=self._options.settings.deployment,
            )
            if self._options.leader_elect:
                await leader.acquire()
            self._metrics.leader.set(1)
            try:
                await self._reconcile(kube, leader)
            finally:
                self._metrics.leader.set(0)
                async with asyncio.timeout(_GOODBYE):
                    await leader.release()

    async def _wait_until_served(self, kube: Kube) -> None:
        """Until the API server answers for each of our kinds."""
        delay = _FIRST_RETRY
        while self._waiting_for is not None:
            try:
                for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER):
                    for namespace in self._options.settings.namespaces or (None,):
                        await kube.list_page(kind, namespace, limit=1)
            except NotFound:
                self._waiting_for = (
                    "the custom resource definitions of ollamafleet.dev are not installed: "
                    "kubectl apply --server-side -f crds/, or install the chart with crds.enabled"
                )
            except KubeError as error:
                self._waiting_for = str(error)
            else:
                self._waiting_for = None
                return
            log.warning("%s; trying again in %.0f s", self._waiting_for, delay)
            await self._clock.wait(self._stopping, delay * (0.8 + 0.4 * self._random()))
            delay = min(_LAST_RETRY, delay * 2)

    async def _reconcile(self, kube: Kube, leader: Leader) -> None:
        """Everything that runs while leading; ends with the first part that ends."""
        if leader.leading:
            kube = kube.fenced(leader.sure)
        settings = self._options.settings
        reconcilers: Reconcilers = {}

        async def reconcile(key: Key) -> Result:
            return await reconcilers[key.kind](key.namespace, key.name)

        store = Store()
        loop = Loop(reconcile, self._clock, self._random, self._metrics.observe)
        context = Context(
            kube, store, loop, self._clock, self._random, settings, self._metrics.registry
        )
        reconcilers.update(self._build(context))
        feed = Feed(
            kube,
            store,
            loop,
            self._clock,
            self._random,
            settings.namespaces,
            settings.resync_interval,
        )
        parts: list[asyncio.Task[Any]] = []

        def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
            parts.append(asyncio.create_task(work))
            return parts[-1]

        lease = [start(_hold(leader))] if leader.leading else []
        try:
            await _first_end(start(self._fill(feed)), *lease)
            self._loop, self._feed = loop, feed
            self._metrics.queue.set_function(lambda: len(loop))
            log.info("reconciling %s", ", ".join(settings.namespaces) or "every namespace")
            watches = Watches(kube, feed, settings.namespaces)
            await _first_end(*lease, start(loop.run()), start(feed.run()), start(watches.run()))
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, context.background.stop(), return_exceptions=True)

    async def _fill(self, feed: Feed) -> None:
        delay = _FIRST_RETRY
        while True:
            try:
                return await feed.fill()
            except KubeError as error:
                log.warning("%s; trying again in %.0f s", error, delay)
            await self._clock.wait(self._stopping, delay)
            delay = min(_LAST_RETRY, delay * 2)

    def _alive(self) -> str | None:
        if self._loop is None or self._feed is None:
            return None
        still = self._clock.monotonic() - self._loop.last_beat
        if still > _STANDSTILL:
            return f"the reconcile loop has stood still for {still:.0f} s"
        if dead := self._feed.dead:
            return f"changes are missed of {', '.join(kind.plural for kind in dead)}"
        return None

    def _ready(self) -> str | None:
        return self._waiting_for and f"waiting: {self._waiting_for}"

    def _catch_signals(self) -> None:
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self._stopping.set)


async def _hold(leader: Leader) -> None:
    """Renew the Lease, be there a thousand servers to reconcile: with a connection of its own, as
    nothing else may keep it waiting."""

    async def renew() -> None:
        async with await Kube.connect() as kube:
            await leader.hold(kube)

    await beside("lease", renew)


async def _first_end(*tasks: asyncio.Task[Any]) -> None:
    """Until one of the tasks ends; raises what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
