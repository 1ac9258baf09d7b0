"""Asks every server, every few seconds, whether it is there, what it has and what is loaded."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import aiohttp
import orjson

from ollama_fleet.router.caller import ProbeError, answer_of, session_of
from ollama_fleet.router.names import lookup_key
from ollama_fleet.router.settings import Settings
from ollama_fleet.router.snapshot import Endpoint, Fleet, Loaded, Model, Server, Snapshot, State

log = logging.getLogger(__name__)

MAX_MODELS = 2000

Ask = Callable[[str], Awaitable[bytes]]
"""What a path answers; raises `ProbeError`."""


class Prober:
    """One loop per server of the fleet; servers that come and go are followed."""

    def __init__(self, fleet: Fleet, settings: Settings) -> None:
        self.settings = settings
        self._fleet = fleet
        self._probes: dict[str, _Probe] = {}
        self._settled = False
        self._closed = False
        fleet.on_want(self._follow)
        self._follow(fleet.snapshot)

    def poke(self, name: str) -> None:
        """Probe a server now."""
        probe = self._probes.get(name)
        if probe is not None:
            probe.now.set()

    @property
    def settled(self) -> bool:
        """Whether there was a moment when every server had been probed at least once."""
        self._settled = self._settled or all(probe.rounds for probe in self._probes.values())
        return self._settled

    async def close(self) -> None:
        """Stop probing."""
        self._closed = True
        probes, self._probes = list(self._probes.values()), {}
        for probe in probes:
            probe.task.cancel()
        await asyncio.gather(*(probe.task for probe in probes), return_exceptions=True)

    def _follow(self, snapshot: Snapshot) -> None:
        if self._closed:
            return
        endpoints = {server.name: server.endpoint for server in snapshot.servers}
        for name, probe in list(self._probes.items()):
            if endpoints.get(name) != probe.endpoint:
                self._probes.pop(name).task.cancel()
        for name, endpoint in endpoints.items():
            if name not in self._probes:
                self._probes[name] = _Probe(self, self._fleet, endpoint)


class _Probe:
    """The probing of one server."""

    def __init__(self, prober: Prober, fleet: Fleet, endpoint: Endpoint) -> None:
        self._prober = prober
        self._fleet = fleet
        self.endpoint = endpoint
        self.rounds = 0
        self.now = asyncio.Event()
        self._last_answer = asyncio.get_running_loop().time()
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        async with session_of(self.endpoint) as http:
            while True:
                self.now.clear()
                await self._round(http)
                self.rounds += 1
                try:
                    async with asyncio.timeout(self._prober.settings.interval):
                        await self.now.wait()
                except TimeoutError:
                    continue

    async def _round(self, http: aiohttp.ClientSession) -> None:
        known = self._fleet.get(self.endpoint.name)
        if known is None:
            return
        clock = asyncio.get_running_loop().time
        seconds = self._prober.settings.probe_timeout
        try:
            async with asyncio.timeout(seconds):
                seen = await observe(
                    lambda path: answer_of(http, self.endpoint, path, seconds), known
                )
        except (ProbeError, TimeoutError) as error:
            current = self._fleet.get(self.endpoint.name)
            if current is None:
                return
            silent = clock() - self._last_answer
            refused = isinstance(error, ProbeError) and error.refused
            state = current.state
            if refused or silent >= self._prober.settings.offline_after:
                state = State.OFFLINE
            if not current.missed:
                log.warning("%s does not answer probes: %s", known.name, error or "timed out")
            self._fleet.observe(replace(current, state=state, missed=current.missed + 1))
            return
        self._last_answer = clock()
        if known.state is not State.READY or known.missed:
            log.info(
                "%s is ready: Ollama %s, %d models", seen.name, seen.version, len(seen.installed)
            )
        known.load.breaker.may_try()
        self._fleet.observe(seen)


async def observe(ask: Ask, known: Server) -> Server:
    """Ask a server for what it is and has; raises `ProbeError`."""
    version = await _object(ask, "/api/version")
    tags = await models_at(ask, "/api/tags")
    loaded = known.load.running = await models_at(ask, "/api/ps")
    installed = {}
    for entry in tags:
        model = Model(str(entry["name"]), str(entry.get("digest", "")), entry)
        installed[lookup_key(model.name)] = model
    known.load.remembers({lookup_key(str(entry["name"])): _loaded(entry) for entry in loaded})
    return replace(
        known,
        state=State.READY,
        missed=0,
        version=str(version.get("version", "")),
        installed=installed,
        loaded=frozenset(lookup_key(str(entry["name"])) for entry in loaded),
        resident=frozenset(
            lookup_key(str(entry["name"])) for entry in loaded if not _spilled(entry)
        ),
    )


async def models_at(ask: Ask, path: str) -> list[dict[str, Any]]:
    """The models that a path lists; raises `ProbeError`."""
    found = (await _object(ask, path)).get("models") or []
    if not isinstance(found, list):
        raise ProbeError("its list of models is no list")
    named = [entry for entry in found if isinstance(entry, dict) and entry.get("name")]
    return named[:MAX_MODELS]


def _spilled(entry: dict[str, Any]) -> bool:
    """Partly on the CPU. A server without a GPU says 0 for every model: that is not spilled."""
    size, vram = entry.get("size"), entry.get("size_vram")
    return isinstance(size, int) and isinstance(vram, int) and 0 < vram < size


def _loaded(entry: dict[str, Any]) -> Loaded:
    size = entry.get("size_vram") or entry.get("size")
    try:
        leaves = datetime.fromisoformat(str(entry.get("expires_at"))).timestamp()
    except (ValueError, OverflowError):
        leaves = 0.0
    return Loaded(size if isinstance(size, int) else 0, leaves)


async def _object(ask: Ask, path: str) -> dict[str, Any]:
    try:
        body = orjson.loads(await ask(path))
        orjson.dumps(body)  # clients are told of it, and more can be read than written
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        body = None
    if not isinstance(body, dict):
        raise ProbeError(f"GET {path} gave something other than a JSON object")
    return body
