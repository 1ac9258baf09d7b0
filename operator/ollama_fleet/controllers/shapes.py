"""What models are like, by the digest of their manifest: as a registry says or, where it does not,
a server that has the model."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.probes import Probes, installed
from ollama_fleet.ollama.errors import OllamaError
from ollama_fleet.ollama.wire import ModelDetail
from ollama_fleet.plan.architecture import Architecture, architecture_of
from ollama_fleet.plan.shapes import Holder
from ollama_fleet.plan.sizing import Shape
from ollama_fleet.plan.tasks import RegistryFact

T = TypeVar("T")

log = logging.getLogger(__name__)

WAIT = 2.0
"""Seconds a reconcile waits for servers that are asked for the first time."""
TIMEOUT = 30.0
"""Seconds a server has for its answer."""
FIRST_PAUSE, LAST_PAUSE = 15.0, 600.0
"""Seconds before a server that did not answer is asked again."""
MOST = 4096
"""Models remembered at once."""


@dataclass(frozen=True)
class _Failed:
    """How often it was asked in vain, and when another try is worth it."""

    times: int
    until: float


class Shapes:
    """What models are like. ``changed`` is called whenever a server has been asked.

    A digest stands for the same bytes everywhere and for good, so the first to describe it is
    believed for as long as the operator runs, and no verdict goes back and forth between two that
    differ. The registry comes first, which knows before anything is pulled; a server is asked only
    for what the registry does not say, as while it cannot be reached, has no such model, or no
    header that can be read. Both read the same header: a server that leaves out of it what matters
    has said nothing.
    """

    def __init__(
        self,
        background: Background,
        probes: Probes,
        clock: Clock,
        changed: Callable[[], None],
        at_once: int = 8,
    ) -> None:
        self._background = background
        self._probes = probes
        self._clock = clock
        self._changed = changed
        self._places = asyncio.Semaphore(at_once)
        self._failed: dict[str, _Failed] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self.known: dict[str, Shape] = {}
        """Without an architecture where servers were asked in vain, or say too little."""

    def learn(self, facts: Iterable[RegistryFact]) -> None:
        """Take over what registries say."""
        for fact in facts:
            if fact.digest is not None and fact.architecture is not None:
                self._learn(fact.digest, Shape(fact.architecture, fact.weights))

    async def ask(self, namespace: str, held: Mapping[str, Sequence[Holder]]) -> float | None:
        """Have servers of a namespace describe what nobody has described yet, each digest by one
        that has it; seconds until one is worth asking again.

        What is asked for the first time is waited for, up to WAIT; all else goes on by itself. A
        server that does not answer is no error: another one is asked, or the same again later.
        """
        first, due = [], []
        now = self._clock.monotonic()
        for digest, holders in held.items():
            failed = self._failed.get(digest)
            if self._described(digest) or (digest in self.known and failed is None):
                continue
            if digest not in self._asking:
                if failed is not None and failed.until > now:
                    due.append(failed.until - now)
                    continue
                times = failed.times if failed else 0
                holder = holders[times % len(holders)]
                name = f"ask {holder.url} for {holder.model}"
                work = self._ask(namespace, digest, holder, times)
                self._asking[digest] = self._background.start(name, work)
            if digest not in self.known:
                first.append(self._asking[digest])
        if first:
            await asyncio.wait(first, timeout=WAIT)
        return max(1.0, min(due)) if due else None

    def _described(self, digest: str) -> bool:
        known = self.known.get(digest)
        return known is not None and known.architecture is not None

    def _learn(self, digest: str, shape: Shape) -> None:
        if not self._described(digest):
            _remember(self.known, digest, shape)

    async def _ask(self, namespace: str, digest: str, holder: Holder, before: int) -> None:
        """Ask one server; ``before`` were asked in vain."""
        shape = Shape()
        self._failed.pop(digest, None)
        try:
            detail = await self._detail(f"{namespace}/{holder.ollamanode}", digest, holder)
            shape = Shape(_architecture(detail))
            log.info("%s described %s", holder.url, holder.model)
        except (OllamaError, TimeoutError) as error:
            pause = min(FIRST_PAUSE * 2.0 ** min(before, 16), LAST_PAUSE)
            failed = _Failed(before + 1, self._clock.monotonic() + pause)
            _remember(self._failed, digest, failed)
            why = str(error) or "no answer"
            log.info("%s does not describe %s: %s", holder.url, holder.model, why)
        finally:
            del self._asking[digest]
            self._learn(digest, shape)
        self._changed()

    async def _detail(self, group: str, digest: str, holder: Holder) -> ModelDetail:
        async with (
            self._places,
            asyncio.timeout(TIMEOUT),
            self._probes.client(group, holder.url) as client,
        ):
            detail = await client.show(holder.model)
            # it is not said which one was described, and the name may stand for another by now
            there = installed(await client.tags()).get(holder.model)
        if there is None or there.digest != digest:
            raise OllamaError("it has another one by now")
        return detail


def _architecture(detail: ModelDetail) -> Architecture | None:
    found = architecture_of(detail.model_info, detail.vocabulary)
    return replace(found, sees=True) if found and detail.projector_info else found


def _remember(kept: dict[str, T], digest: str, value: T) -> None:
    """The oldest goes where there are too many."""
    kept.pop(digest, None)
    while len(kept) >= MOST:
        del kept[next(iter(kept))]
    kept[digest] = value
