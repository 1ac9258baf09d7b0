"""What registries say of models, remembered for a while."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from ollama_fleet.api.modeldistribution import Source
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.ollama.errors import ModelNotFound, OllamaError
from ollama_fleet.ollama.registry import RegistryClient
from ollama_fleet.plan.disk import Blobs
from ollama_fleet.plan.tasks import RegistryFact

KNOWN, MISSING, FAILED = 600.0, 120.0, 15.0
"""Seconds for which a manifest, an absence and a failure to ask are believed."""


@dataclass(frozen=True)
class _Kept:
    fact: RegistryFact
    until: float


class RegistryFacts:
    """Digests and sizes of models, by registry and name."""

    def __init__(self, clock: Clock, timeout: float, at_once: int = 8) -> None:
        self._clock = clock
        self._timeout = timeout
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._places = asyncio.Semaphore(at_once)
        self.layers: dict[str, Blobs] = {}
        """What every model is made of that was ever asked about, by the digest of its manifest:
        a server may have one that its name no longer stands for."""

    async def of(self, source: Source, models: Iterable[str]) -> dict[str, RegistryFact]:
        """The facts of these models (canonical names), asking where none is fresh."""
        names = sorted(models)
        now = self._clock.monotonic()
        stale = [name for name in names if not self._fresh((source.registry, name), now)]
        if stale:
            base = f"{'http' if source.insecure else 'https'}://{source.registry}"
            async with RegistryClient(base, source.insecure, self._timeout) as client:
                facts = await asyncio.gather(*(self._ask(client, one) for one in stale))
            for name, fact in zip(stale, facts, strict=True):
                self._keep((source.registry, name), fact)
        return {name: self._kept[source.registry, name].fact for name in names}

    def next_look(self, source: Source, models: Iterable[str]) -> float | None:
        """Seconds until an absence or a failure is worth asking about again; None without one."""
        now = self._clock.monotonic()
        due = [
            kept.until - now
            for name in models
            if (kept := self._kept.get((source.registry, name))) is not None
            and (kept.fact.missing or kept.fact.error)
        ]
        return max(1.0, min(due)) if due else None

    def forget(self, source: Source, model: str) -> None:
        """Ask again next time."""
        self._kept.pop((source.registry, model), None)

    def _fresh(self, key: tuple[str, str], now: float) -> bool:
        return key in self._kept and self._kept[key].until > now

    def _keep(self, key: tuple[str, str], fact: RegistryFact) -> None:
        seconds = FAILED if fact.error else MISSING if fact.missing else KNOWN
        self._kept[key] = _Kept(fact, self._clock.monotonic() + seconds)

    async def _ask(self, client: RegistryClient, model: str) -> RegistryFact:
        async with self._places:
            try:
                manifest = await client.manifest(model)
            except ModelNotFound:
                return RegistryFact(missing=True)
            except OllamaError as error:
                return RegistryFact(error=str(error))
        digest = f"sha256:{manifest.digest}"
        blobs = {layer.digest: layer.size for layer in (manifest.config, *manifest.layers)}
        self.layers[digest] = blobs
        return RegistryFact(digest=digest, size=manifest.size, blobs=blobs)
