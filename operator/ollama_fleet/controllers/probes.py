"""Asking servers how they are: version, what is installed, what is resident."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from ollama_fleet.api.names import InvalidModelName, canonical
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.context import Background
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import OllamaError
from ollama_fleet.plan.servers import Installed, Probe

log = logging.getLogger(__name__)

INTERVAL, RETRY = 30.0, 5.0


class _Followed:
    """One server that is probed."""

    def __init__(self) -> None:
        self.probe = Probe()
        self.poke = asyncio.Event()
        self.answered = asyncio.Event()
        self.asking = False
        self.round = 0
        self.task: asyncio.Task[None] | None = None


class Probes:
    """What each server last said, by URL, kept fresh in the background."""

    def __init__(
        self, background: Background, clock: Clock, random: Callable[[], float], timeout: float
    ) -> None:
        self._background = background
        self._clock = clock
        self._random = random
        self._timeout = timeout
        self._followed: dict[str, _Followed] = {}
        self._groups: dict[str, frozenset[str]] = {}
        self._changed: dict[str, Callable[[], None]] = {}
        self._met: set[str] = set()

    def follow(self, group: str, urls: Iterable[str], changed: Callable[[], None]) -> None:
        """Probe these servers for ``group`` (an OllamaNode) and no others.

        ``changed`` is called whenever one of them says something new.
        """
        wanted = frozenset(urls)
        self._groups[group], self._changed[group] = wanted, changed
        for url in wanted:
            one = self._followed.setdefault(url, _Followed())
            if one.task is None:
                one.task = self._background.start(f"probe {url}", self._run(url, one))
        still = frozenset().union(*self._groups.values()) if self._groups else frozenset()
        for url in [url for url in self._followed if url not in still]:
            task = self._followed.pop(url).task
            if task is not None:
                task.cancel()

    def forget(self, group: str) -> None:
        """Probe nothing for ``group`` any more: it is gone."""
        self.follow(group, (), lambda: None)
        del self._groups[group], self._changed[group]
        self._met.discard(group)

    def follows(self, url: str) -> bool:
        """Whether this server is probed already."""
        return url in self._followed

    def met(self, group: str) -> bool:
        """Whether ``group``'s servers have had their first chance to answer."""
        return group in self._met

    def seen(self) -> Mapping[str, Probe]:
        """The latest of every server."""
        return {url: one.probe for url, one in self._followed.items()}

    async def settled(self, group: str, timeout: float) -> None:
        """Until each of ``group`` has been asked once, or ``timeout`` seconds have passed."""
        asked = [self._followed[url].answered.wait() for url in self._groups.get(group, ())]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.gather(*asked)
        self._met.add(group)

    async def refresh(self, url: str) -> None:
        """Ask this server again now, and wait for the answer: to a question put after this call,
        as an answer on its way may be of before what the caller did."""
        one = self._followed.get(url)
        if one is None:
            return
        target = one.round + (2 if one.asking else 1)
        one.poke.set()
        while self._followed.get(url) is one and one.round < target:
            one.answered.clear()
            await one.answered.wait()

    async def _run(self, url: str, one: _Followed) -> None:
        async with OllamaClient(url, timeout=self._timeout) as client:
            while True:
                one.poke.clear()
                before = one.probe
                one.asking = True
                one.probe = await self._ask(client, before)
                one.asking = False
                one.round += 1
                one.answered.set()
                if one.probe.error is not None or _news(before, one.probe):
                    self._tell(url)
                pause = INTERVAL if one.probe.error is None else RETRY
                await self._clock.wait(one.poke, pause * (0.9 + 0.2 * self._random()))

    def _tell(self, url: str) -> None:
        for group in [group for group, urls in self._groups.items() if url in urls]:
            self._changed[group]()

    async def _ask(self, client: OllamaClient, before: Probe) -> Probe:
        try:
            version = await client.version()
            installed = await client.tags()
            resident = await client.ps()
        except OllamaError as error:
            return replace(before, error=str(error))
        except Exception as error:
            # whatever it is, the server is asked again
            log.exception("%s: probe failed by a defect", client.base_url)
            return replace(before, error=f"{type(error).__name__}: {error}")
        now = self._clock.now()
        return Probe(
            version=version or "unknown",
            installed={
                _name(one.name): Installed(_digest(one.digest), one.size) for one in installed
            },
            resident={_name(one.name): one.size_vram or one.size for one in resident},
            first_seen=before.first_seen or now,
            last_seen=now,
        )


def _news(before: Probe, after: Probe) -> bool:
    return (
        before.error is not None
        or before.version != after.version
        or before.installed != after.installed
        or before.resident != after.resident
    )


def _name(name: str) -> str:
    try:
        return canonical(name)
    except InvalidModelName:
        return name


def _digest(digest: str) -> str:
    """Ollama lists digests without their algorithm."""
    return digest if not digest or digest.startswith("sha256:") else f"sha256:{digest}"
