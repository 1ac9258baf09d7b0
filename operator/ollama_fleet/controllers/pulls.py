"""Pulls under way: each an asyncio task that tells a server to pull, and watches it do so."""

import asyncio
import logging
from collections import Counter as Counted
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.names import canonical
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.pullmetrics import PullMetrics
from ollama_fleet.controllers.turns import Turns
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import (
    ModelNotFound,
    OllamaError,
    OllamaResponseError,
    PullFailed,
    Silent,
    Unreachable,
)
from ollama_fleet.ollama.progress import Progress
from ollama_fleet.ollama.wire import PullProgress
from ollama_fleet.plan.disk import Blobs
from ollama_fleet.plan.distribution import PullOrder
from ollama_fleet.plan.retries import cause
from ollama_fleet.plan.tasks import Failure, Running

log = logging.getLogger(__name__)

REPORT_INTERVAL = 2.0
"""Seconds for which an owner's figures stand: its status is written no more often for them."""

LEAST, SERVERS = 16, 10
"""Pulls at once, unless the operator is told how many: one for so many servers, and so many at
least."""

LASTING = 1.0
"""Seconds of verifying after which that is told: mostly it is over before."""


class _PullError(Exception):
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _LostError(Exception):
    """The server went away; whatever comes of it is no fault of the pull."""


@dataclass
class _Pull:
    """One download; several tasks may want the same one."""

    order: PullOrder
    owner: str
    changed: Callable[[], None]
    progress: Progress
    verifying: bool = False
    shown: Running | None = None
    task: asyncio.Task[None] | None = None
    reported: float = 0.0
    grew: float = 0.0
    size: int = -1

    @property
    def group(self) -> str:
        """The server's OllamaNode, as namespace/name: it is in the owner's namespace."""
        return f"{self.owner.partition('/')[0]}/{self.order.ollamanode}"

    def now(self, time: float) -> Running:
        """How it stands at this moment."""
        return Running(
            state="Verifying" if self.verifying else "Pulling",
            completed=self.progress.completed,
            total=self.progress.total,
            speed=int(self.progress.speed(time)),
            eta=self.progress.eta(time),
        )


class Pulls:
    """Starts, follows and stops pulls; remembers how they failed."""

    def __init__(
        self,
        background: Background,
        probes: Probes,
        clock: Clock,
        metrics: CollectorRegistry,
        limit: int | None,
    ) -> None:
        self._background = background
        self._probes = probes
        self._clock = clock
        self._turns = Turns(lambda: limit or max(LEAST, probes.count() // SERVERS), clock)
        self._running: dict[str, _Pull] = {}
        self._failures: dict[str, Failure] = {}
        self._owners: dict[str, str] = {}
        self._shown_at: dict[str, float] = {}
        self._recalled: set[str] = set()
        self._metrics = PullMetrics(metrics)

    def running(self, owner: str) -> dict[str, Running]:
        """How an owner's pulls stand, by task. The figures change every REPORT_INTERVAL at most,
        so that what is made of them does not differ each time it is looked at."""
        now = self._clock.monotonic()
        # a report comes with a line of the pull, so two are not exactly so far apart
        stale = now - self._shown_at.get(owner, -REPORT_INTERVAL) >= 0.9 * REPORT_INTERVAL
        if stale:
            self._shown_at[owner] = now
        shown = {}
        for task, pull in self._running.items():
            if pull.owner != owner:
                continue
            if stale or pull.shown is None or (pull.shown.state == "Verifying") != pull.verifying:
                pull.shown = pull.now(now)
            shown[task] = pull.shown
        return shown

    def arriving(self, namespace: str) -> dict[str, Blobs]:
        """What is being pulled to each server of a namespace, whoever wants it."""
        found: dict[str, Blobs] = {}
        for pull in self._running.values():
            if pull.owner.partition("/")[0] == namespace:
                server = pull.order.server
                found[server] = {**found.get(server, {}), **pull.order.blobs}
        return found

    def places(self, owner: str, more: int, changed: Callable[[], None]) -> int:
        """How many of that many pulls an owner may start now, by the operator's limit; where it is
        not all of them, ``changed`` is called once there is room."""
        return self._turns.places(owner, self._counted(), more, changed)

    def waits(self, owner: str) -> bool:
        """Whether an owner wants to start more than it may."""
        return self._turns.waits(owner)

    def failures(self, owner: str) -> dict[str, Failure]:
        """How the latest pulls of an owner's tasks failed, by task."""
        return {
            task: failure
            for task, failure in self._failures.items()
            if self._owners.get(task) == owner
        }

    def recall(self, owner: str, failures: dict[str, Failure]) -> None:
        """Take over failures that an earlier run of the operator left in status, once: what
        status says later is but an echo, and may be of a pull that has succeeded since."""
        if owner in self._recalled:
            return
        self._recalled.add(owner)
        for task, failure in failures.items():
            self._failures.setdefault(task, failure)
            self._owners[task] = owner

    def forgive(self, owner: str) -> None:
        """Forget an owner's failures: the spec has changed, or it is gone."""
        self._recalled.add(owner)
        for task in [task for task, of in self._owners.items() if of == owner]:
            self._failures.pop(task, None)
            del self._owners[task]
        self._shown_at.pop(owner, None)

    def forget(self, owner: str) -> None:
        """An owner is gone: its pulls stop, and nothing is remembered of it."""
        self.keep(owner, ())
        self.forgive(owner)
        self._turns.forget(owner, self._counted())

    def start(
        self, owner: str, order: PullOrder, attempts: int, changed: Callable[[], None]
    ) -> None:
        """Begin a pull unless it runs; ``attempts`` have failed before."""
        if order.task in self._running:
            return
        pull = _Pull(order, owner, changed, Progress(order.size))
        self._running[order.task] = pull
        self._owners[order.task] = owner
        name = f"pull {order.model} to {order.server}"
        pull.task = self._background.start(name, self._run(pull, attempts))

    def keep(self, owner: str, wanted: Collection[str]) -> None:
        """Stop those of an owner's pulls that are wanted no longer; a later one resumes."""
        unwanted = [
            task
            for task, pull in self._running.items()
            if pull.owner == owner and task not in wanted
        ]
        for task in unwanted:
            pull = self._running.pop(task)
            log.info("pull of %s to %s stopped", pull.order.model, pull.order.server)
            if pull.task is not None:
                pull.task.cancel()
        if unwanted:
            self._turns.wake(self._counted())

    async def _run(self, pull: _Pull, attempts: int) -> None:
        order = pull.order
        began = self._clock.monotonic()
        log.info("pull started: %s to %s (task %s)", order.model, order.server, order.task)
        result = "cancelled"
        try:
            await self._pull(pull)
            result = "completed"
            self._failures.pop(order.task, None)
            log.info("pull completed: %s on %s (task %s)", order.model, order.server, order.task)
        except _LostError as error:
            result = "lost"
            self._lose(pull, attempts, str(error))
        except _PullError as error:
            result = "failed"
            self._fail(pull, attempts, error.reason, str(error))
        except Exception as error:
            # without a failure on record it would be tried again at once, for ever
            result = "failed"
            log.exception("pull of %s to %s: failed by a defect", order.model, order.server)
            self._fail(pull, attempts, Reason.PULL_FAILED, f"{type(error).__name__}: {error}.")
        finally:
            self._metrics.duration.labels(result).observe(self._clock.monotonic() - began)
            # one that is cancelled and still counts goes with the operator, which waits for nobody
            if result != "cancelled" and self._running.get(order.task) is pull:
                await self._end(pull)

    def _counted(self) -> Mapping[str, int]:
        """How many pulls each owner has."""
        return Counted(pull.owner for pull in self._running.values())

    def _fail(self, pull: _Pull, attempts: int, reason: Reason, message: str) -> None:
        order = pull.order
        self._failures[order.task] = Failure(self._clock.now(), attempts + 1, reason, message)
        self._owners[order.task] = pull.owner
        self._metrics.failures.labels(reason).inc()
        log.warning("pull failed: %s to %s: %s", order.model, order.server, message)

    def _lose(self, pull: _Pull, attempts: int, message: str) -> None:
        """No attempt; but one whose server is lost again before a byte has come waits longer."""
        order, before = pull.order, self._failures.get(pull.order.task)
        losses = before.losses + 1 if before is not None and not pull.progress.received else 1
        reason = Reason.UNREACHABLE
        if before is not None and before.reason == Reason.DIGEST_MISMATCH:
            # what it has installed is still not what was wanted
            reason = before.reason
        self._failures[order.task] = Failure(self._clock.now(), attempts, reason, message, losses)
        self._owners[order.task] = pull.owner
        self._metrics.failures.labels(Reason.UNREACHABLE).inc()
        log.warning("pull interrupted: %s to %s: %s", order.model, order.server, message)

    async def _end(self, pull: _Pull) -> None:
        try:
            await asyncio.wait_for(self._probes.refresh(pull.group, pull.order.url), 15.0)
        except TimeoutError:
            log.info("%s does not say what it has installed", pull.order.server)
        if self._running.get(pull.order.task) is pull:
            del self._running[pull.order.task]
        pull.changed()
        self._turns.wake(self._counted())

    async def _pull(self, pull: _Pull) -> None:
        order = pull.order
        try:
            async with self._probes.client(pull.group, order.url) as client:
                await self._download(client, pull)
            pull.verifying = True
            told = asyncio.get_running_loop().call_later(LASTING, pull.changed)
            try:
                await self._check(pull)
            finally:
                told.cancel()
        except ModelNotFound as error:
            raise _PullError(Reason.MODEL_NOT_FOUND, f"{error}.") from error
        except Unreachable as error:
            raise _LostError(f"the server was lost: {error}.") from error
        except OllamaError as error:
            raise _PullError(_reason(error), f"{error}.") from error

    async def _check(self, pull: _Pull) -> None:
        """Give what was pulled the name it is wanted by, and see that it is what was wanted."""
        order = pull.order
        # another client: in the hours of a download its headers may have changed
        async with self._probes.client(pull.group, order.url) as client:
            if canonical(order.name) != order.model:
                # pulled by the registry's name: give it its own, the layers are shared
                await client.copy(order.name, order.model)
                await client.delete(order.name)
            await self._verify(client, order)

    async def _download(self, client: OllamaClient, pull: _Pull) -> None:
        order = pull.order
        pull.grew = self._clock.monotonic()
        lines = client.pull(order.name, order.insecure, order.stall_timeout)
        try:
            await self._follow(lines, pull)
        except Silent as error:
            raise self._stalled(pull) from error

    async def _follow(self, lines: AsyncIterator[PullProgress], pull: _Pull) -> None:
        order, progress = pull.order, pull.progress
        async for line in lines:
            now = self._clock.monotonic()
            progress.observe(line, now)
            completed = progress.completed
            if completed != pull.size or not line.digest:
                if pull.size >= 0:
                    self._metrics.bytes.inc(max(0, completed - pull.size))
                pull.size, pull.grew = completed, now
            elif now - pull.grew > order.stall_timeout:
                raise self._stalled(pull)
            if now - pull.reported >= REPORT_INTERVAL:
                pull.reported = now
                pull.changed()

    def _stalled(self, pull: _Pull) -> _PullError:
        """To leave is what cancels it on the server; the next attempt resumes it."""
        return _PullError(
            Reason.PULL_STALLED,
            f"the pull stood still for {pull.order.stall_timeout:.0f} s at "
            f"{pull.progress.fraction:.0%}.",
        )

    async def _verify(self, client: OllamaClient, order: PullOrder) -> None:
        for model in await client.tags():
            if canonical(model.name) != order.model:
                continue
            digest = model.digest.removeprefix("sha256:")
            if order.digest and digest != order.digest.removeprefix("sha256:"):
                raise _PullError(
                    Reason.DIGEST_MISMATCH,
                    f"{order.model} has digest sha256:{digest}, wanted {order.digest}.",
                )
            return
        raise _PullError(
            Reason.PULL_FAILED, f"the server said success, and does not list {order.model}."
        )


def _reason(error: OllamaError) -> Reason:
    """Why a server did not pull, from what it says of it; what it answers to a request that is not
    in order says nothing of the registry."""
    if isinstance(error, PullFailed):
        return cause(error.message)
    if isinstance(error, OllamaResponseError) and error.status >= 500:
        return cause(error.message)
    return Reason.PULL_FAILED
