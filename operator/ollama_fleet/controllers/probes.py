"""Asking servers how they are: version, what is installed, what is resident."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ollama_fleet.api.access import Access, SecretError, SecretRefs
from ollama_fleet.api.names import InvalidModelName, canonical
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.context import Background
from ollama_fleet.kube import KubeError
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import OllamaError, OllamaResponseError
from ollama_fleet.ollama.wire import InstalledModel, ResidentModel
from ollama_fleet.plan.servers import OFFLINE_AFTER, Installed, Probe
from ollama_fleet.plan.times import rfc3339
from ollama_fleet.plan.troubles import Trouble

log = logging.getLogger(__name__)

INTERVAL, RETRY = 30.0, 5.0
VERSION_EVERY = 10
"""Probes of a server that is well to one that asks for its version as well: only a start can have
changed that, which most often shows itself."""
FOR_EVER = timedelta(days=3650)
"""A model that stays in memory for longer was put there for good: Ollama says some 290 years."""

Changed = Callable[[frozenset[str] | None], None]
"""Called with the models that a server has, or no longer has, on disk or in memory, where nothing
else is news."""
ReadAccess = Callable[[str, SecretRefs], Awaitable[Access]]
"""Reads Secrets of a namespace; raises SecretError or KubeError."""


class _Followed:
    """One server that is probed, of one OllamaNode: another one may have the same address, and
    must not be reached by what this one's Secrets hold."""

    def __init__(self, url: str, offline_after: timedelta) -> None:
        self.url = url
        self.probe = Probe(offline_after=offline_after)
        self.secrets = SecretRefs()
        self.access: Access | None = Access()
        self.client: OllamaClient | None = None
        self.poke = asyncio.Event()
        self.answered = asyncio.Event()
        self.asking = False
        self.round = 0
        self.task: asyncio.Task[None] | None = None
        self.life: str | None = None
        self.started = False
        """Whether it has begun another life since it was asked for its version."""
        self.changed: Changed = lambda models: None


class Probes:
    """What each server last said, by OllamaNode and URL, kept fresh in the background."""

    def __init__(
        self,
        background: Background,
        clock: Clock,
        random: Callable[[], float],
        timeout: float,
        read: ReadAccess,
        interval: float = INTERVAL,
        offline_after: timedelta = OFFLINE_AFTER,
    ) -> None:
        self._background = background
        self._clock = clock
        self._random = random
        self._timeout = timeout
        self._read = read
        self._interval = interval
        self._offline_after = offline_after
        self._groups: dict[str, dict[str, _Followed]] = {}
        self._met: set[str] = set()

    def follow(
        self,
        group: str,
        urls: Iterable[str],
        secrets: SecretRefs,
        changed: Changed,
    ) -> None:
        """Probe these servers for ``group`` (an OllamaNode, as namespace/name) and no others.

        ``changed`` is called whenever one of them says something new. They are reached by what
        the ``secrets`` hold, which are read again before each probe.
        """
        known = self._groups.get(group, {})
        self._groups[group] = wanted = {
            url: known.get(url) or _Followed(url, self._offline_after) for url in urls
        }
        for url, one in wanted.items():
            one.changed = changed
            if one.secrets != secrets:
                one.secrets, one.access = secrets, None
                one.poke.set()
            if one.task is None:
                one.task = self._background.start(f"probe {url}", self._run(group, one))
        for url, one in known.items():
            if url not in wanted and one.task is not None:
                one.task.cancel()

    def lives(self, group: str, lives: Mapping[str, str]) -> None:
        """Ask those at once, by URL, that have begun another life since this was last said: a
        server that has started again has nothing in memory."""
        for url, life in lives.items():
            one = self._groups.get(group, {}).get(url)
            if one is not None and one.life != life:
                if one.life is not None:
                    one.started = True
                    one.poke.set()
                one.life = life

    def forget(self, group: str) -> None:
        """Probe nothing for ``group`` any more: it is gone."""
        self.follow(group, (), SecretRefs(), lambda models: None)
        del self._groups[group]
        self._met.discard(group)

    def follows(self, group: str, url: str) -> bool:
        """Whether this server is probed already."""
        return url in self._groups.get(group, ())

    def count(self) -> int:
        """How many servers are probed."""
        return sum(map(len, self._groups.values()))

    def client(self, group: str, url: str) -> OllamaClient:
        """A client of the caller's own that reaches the server as it was last reached."""
        one = self._groups.get(group, {}).get(url)
        return OllamaClient(url, one.access if one else None, self._timeout)

    def met(self, group: str) -> bool:
        """Whether ``group``'s servers have had their first chance to answer."""
        return group in self._met

    def seen(self, group: str) -> Mapping[str, Probe]:
        """The latest of each of ``group``'s servers, by URL."""
        return {url: one.probe for url, one in self._groups.get(group, {}).items()}

    async def settled(self, group: str, timeout: float) -> None:
        """Until each of ``group`` has been asked once, or ``timeout`` seconds have passed."""
        asked = [one.answered.wait() for one in self._groups.get(group, {}).values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.gather(*asked)
        self._met.add(group)

    async def refresh(self, group: str, url: str) -> None:
        """Ask this server again now, and wait for the answer: to a question put after this call,
        as an answer on its way may be of before what the caller did."""
        one = self._groups.get(group, {}).get(url)
        if one is None:
            return
        target = one.round + (2 if one.asking else 1)
        one.poke.set()
        while self._groups.get(group, {}).get(url) is one and one.round < target:
            one.answered.clear()
            await one.answered.wait()

    async def _run(self, group: str, one: _Followed) -> None:
        try:
            while True:
                one.poke.clear()
                before = one.probe
                one.asking = True
                one.probe = await self._look(group, one)
                one.asking = False
                one.round += 1
                one.answered.set()
                if one.probe.error is not None or _news(before, one.probe):
                    one.changed(_models(before, one.probe))
                pause = self._interval if one.probe.error is None else min(RETRY, self._interval)
                await self._clock.wait(one.poke, pause * (0.9 + 0.2 * self._random()))
        finally:
            if one.client is not None:
                await one.client.close()

    async def _look(self, group: str, one: _Followed) -> Probe:
        try:
            return await self._read_and_ask(group, one)
        except Exception as error:
            # whatever it is, the server is asked again
            log.exception("%s: probe failed by a defect", one.url)
            return replace(one.probe, error=f"{type(error).__name__}: {error}")

    async def _read_and_ask(self, group: str, one: _Followed) -> Probe:
        refs, access = one.secrets, one.access
        if refs.names:
            try:
                access = await self._read(group.partition("/")[0], refs)
            except SecretError as error:
                return replace(
                    one.probe, error=str(error), secret=Trouble(error.reason, str(error))
                )
            except KubeError as error:
                if access is None:
                    return replace(one.probe, error=f"its Secrets cannot be read: {error}")
        access = access or Access()
        if one.client is None or access != one.access:
            if one.client is not None:
                await one.client.close()
            one.client = OllamaClient(one.url, access, self._timeout)
        if one.secrets == refs:
            one.access = access
        return await self._ask(one.client, one)

    async def _ask(self, client: OllamaClient, one: _Followed) -> Probe:
        before, started, one.started = one.probe, one.started, False
        version = None if started or one.round % VERSION_EVERY == 0 else before.version
        try:
            if version is None or before.error is not None:
                version = await client.version() or "unknown"
            listed = await client.tags()
            resident = await client.ps()
        except OllamaError as error:
            denied = isinstance(error, OllamaResponseError) and error.status in (401, 403)
            return replace(before, error=str(error), denied=denied, secret=None)
        now = self._clock.now()
        digests = {one.name: one.digest for one in listed}
        return Probe(
            version=version,
            installed=installed(listed),
            resident={_name(one.name): one.size_vram or one.size for one in resident},
            lasting=frozenset(
                _name(one.name)
                for one in resident
                # what was pulled again since is another model, though its name is still there
                if one.digest == digests.get(one.name) and _stays(one, now)
            ),
            first_seen=before.first_seen or now,
            last_seen=now,
            offline_after=before.offline_after,
        )


def installed(listed: Iterable[InstalledModel]) -> dict[str, Installed]:
    """What a server lists, by the names it is known by."""
    return {
        _name(one.name): Installed(_digest(one.digest), one.size, rfc3339(one.modified_at))
        for one in listed
    }


def _stays(resident: ResidentModel, now: datetime) -> bool:
    expires = resident.expires_at
    aware = expires if expires.tzinfo else expires.replace(tzinfo=UTC)
    return aware - now > FOR_EVER


def _news(before: Probe, after: Probe) -> bool:
    return (
        before.error is not None
        or before.version != after.version
        or before.installed != after.installed
        or before.resident != after.resident
        or before.lasting != after.lasting
    )


def _models(before: Probe, after: Probe) -> frozenset[str] | None:
    """The models that are all that is new; None where something else is."""
    if before.error is not None or after.error is not None or before.version != after.version:
        return None
    installed = before.installed.items() ^ after.installed.items()
    resident = before.resident.items() ^ after.resident.items()
    names = {name for name, _ in (*installed, *resident)}
    return frozenset(names | (before.lasting ^ after.lasting))


def _name(name: str) -> str:
    try:
        return canonical(name)
    except InvalidModelName:
        return name


def _digest(digest: str) -> str:
    """Ollama lists digests without their algorithm."""
    return digest if not digest or digest.startswith("sha256:") else f"sha256:{digest}"
