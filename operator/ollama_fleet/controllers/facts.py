"""What registries say of models: manifests for a while, what the files themselves say for good."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.modeldistribution import Source
from ollama_fleet.api.names import DEFAULT_HOST, ModelName
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.ollama.errors import ModelNotFound, OllamaError, RateLimited, Unauthorized
from ollama_fleet.ollama.gguf import GgufError
from ollama_fleet.ollama.registry import (
    MODEL_LAYER,
    Layer,
    RegistryClient,
)
from ollama_fleet.plan.architecture import Architecture, architecture_of
from ollama_fleet.plan.disk import Blobs
from ollama_fleet.plan.sizing import Weights
from ollama_fleet.plan.tasks import RegistryFact

log = logging.getLogger(__name__)

KNOWN, MISSING, FAILED = 600.0, 120.0, 15.0
"""Seconds for which a manifest, an absence or a refusal, and a failure to ask are believed."""
LIMITED, LONGEST = 60.0, 24 * 3600.0
"""Seconds for which a registry is left alone that has had too many requests: where it does not say
how long, and at most."""
MOST_SHAPES = 4096
"""Model files remembered at once."""


@dataclass(frozen=True)
class _Kept:
    fact: RegistryFact
    until: float
    asked: datetime
    file: Layer | None = None
    """The model itself, as opposed to its template and the like."""


@dataclass(frozen=True)
class _Shape:
    """What the head of a file says; ``until`` is when a failure to read it is worth another try."""

    architecture: Architecture | None = None
    until: float | None = None
    failures: int = 0


class RegistryFacts:
    """Digests and sizes of models, by registry and name.

    What a mirror serves is asked of the mirror: where it is set up, it may be all that can be
    reached, and so it says what the servers will get.
    """

    def __init__(
        self, clock: Clock, timeout: float, at_once: int = 8, mirror: Mirror | None = None
    ) -> None:
        self._mirror = mirror
        self._clock = clock
        self._timeout = timeout
        self._kept: dict[tuple[Source, str], _Kept] = {}
        """By source as a whole: what came by plain HTTP is no word of a registry asked by HTTPS."""
        self._places = asyncio.Semaphore(at_once)
        self.layers: dict[str, Blobs] = {}
        """What every model is made of that was ever asked about, by the digest of its manifest:
        a server may have one that its name no longer stands for."""
        self._limited: dict[str, tuple[float, RegistryFact]] = {}
        """Registries to be left alone, until when, and what is said of their models meanwhile."""
        self._shapes: dict[str, _Shape] = {}
        """By the digest of the file, so that they hold for good."""

    async def of(
        self,
        source: Source,
        models: Iterable[str],
        shaped: bool = True,
        since: datetime | None = None,
    ) -> dict[str, RegistryFact]:
        """The facts of these models (canonical names), asking where none is fresh, as are digests
        that the registry gave before ``since``; unless ``shaped``, their files are not looked
        into."""
        names = sorted(models)
        stale = [name for name in names if not self._fresh((source, name), since)]
        if stale:
            async with self._client(source) as client:
                answers = await asyncio.gather(
                    *(self._ask(client, source.registry, one) for one in stale)
                )
            for name, answer in zip(stale, answers, strict=True):
                self._keep((source, name), answer)
        found = {name: self._kept[source, name] for name in names}
        if shaped:
            await self._look_into(source, found)
        return {name: self._told(one) for name, one in found.items()}

    def next_look(self, source: Source, models: Iterable[str]) -> float | None:
        """Seconds until an absence or a failure is worth asking about again; None without one."""
        now = self._clock.monotonic()
        known = [kept for name in models if (kept := self._kept.get((source, name))) is not None]
        due = [kept.until - now for kept in known if kept.fact.missing or kept.fact.error]
        shapes = (self._shapes.get(kept.file.digest, _Shape()) for kept in known if kept.file)
        due += [shape.until - now for shape in shapes if shape.until is not None]
        return max(1.0, min(due)) if due else None

    def _fresh(self, key: tuple[Source, str], since: datetime | None) -> bool:
        kept = self._kept.get(key)
        if kept is None or kept.until <= self._clock.monotonic():
            return False
        return since is None or kept.asked >= since or kept.fact.error is not None

    def _keep(self, key: tuple[Source, str], answer: _Kept) -> None:
        """While a registry does not answer, what it said last is true as far as anybody knows."""
        before = self._kept.get(key)
        if before is not None and answer.fact.error is not None:
            fact = replace(before.fact, error=answer.fact.error, reason=answer.fact.reason)
            answer = replace(answer, fact=fact, file=before.file)
        self._kept[key] = answer

    def _client(self, source: Source) -> RegistryClient:
        base = f"{'http' if source.insecure else 'https'}://{source.registry}"
        mirror = self._mirror if source.mirror else None
        return RegistryClient(base, source.insecure, self._timeout, mirror)

    def _told(self, kept: _Kept) -> RegistryFact:
        if kept.file is None:
            return kept.fact
        shape = self._shapes.get(kept.file.digest, _Shape())
        return replace(kept.fact, architecture=shape.architecture)

    async def _ask(self, client: RegistryClient, registry: str, model: str) -> _Kept:
        host = ModelName.parse(model).host
        host = registry if host == DEFAULT_HOST else host
        async with self._places:
            now, asked = self._clock.monotonic(), self._clock.now()
            until, limited = self._limited.get(host, (0.0, RegistryFact()))
            if until > now:
                return _Kept(limited, until, asked)
            try:
                manifest = await client.manifest(model)
            except ModelNotFound:
                return _Kept(RegistryFact(missing=True), now + MISSING, asked)
            except Unauthorized as error:
                fact = RegistryFact(error=str(error), reason=Reason.REGISTRY_UNAUTHORIZED)
                return _Kept(fact, now + MISSING, asked)
            except RateLimited as error:
                fact = RegistryFact(error=str(error), reason=Reason.RATE_LIMITED)
                wait = LIMITED if error.retry_after is None else error.retry_after
                until = now + min(max(wait, 1.0), LONGEST)
                self._limited[host] = until, fact
                return _Kept(fact, until, asked)
            except OllamaError as error:
                return _Kept(RegistryFact(error=str(error)), now + FAILED, asked)
        digest = f"sha256:{manifest.digest}"
        blobs = {layer.digest: layer.size for layer in (manifest.config, *manifest.layers)}
        self.layers[digest] = blobs
        fact = RegistryFact(
            digest=digest, size=manifest.size, blobs=blobs, weights=Weights(*manifest.loaded)
        )
        file = next(iter(manifest.of_type(MODEL_LAYER)), None)
        return _Kept(fact, now + KNOWN, asked, file)

    async def _look_into(self, source: Source, models: Mapping[str, _Kept]) -> None:
        """Read the heads of those files that were never read, and of which a try is due."""
        now = self._clock.monotonic()
        wanted: dict[str, tuple[str, Layer]] = {}
        for name, kept in models.items():
            if kept.file is None:
                continue
            shape = self._shapes.get(kept.file.digest)
            if shape is None or (shape.until is not None and shape.until <= now):
                wanted.setdefault(kept.file.digest, (name, kept.file))
        if not wanted:
            return
        async with self._client(source) as client:
            await asyncio.gather(*(self._read(client, *one) for one in wanted.values()))

    async def _read(self, client: RegistryClient, model: str, file: Layer) -> None:
        async with self._places:
            try:
                async with asyncio.timeout(self._timeout):
                    header = await client.header(model, file)
                shape = _Shape(architecture_of(header))
            except GgufError as error:
                log.info("%s is sized by its size alone: %s", model, error)
                shape = _Shape()
            except (OllamaError, TimeoutError) as error:
                failures = self._shapes.get(file.digest, _Shape()).failures + 1
                wait = min(FAILED * 2 ** (failures - 1), KNOWN)
                shape = _Shape(None, self._clock.monotonic() + wait, failures)
                log.info("the head of %s cannot be read: %s", model, str(error) or "no answer")
        self._shapes.pop(file.digest, None)
        while len(self._shapes) >= MOST_SHAPES:
            del self._shapes[next(iter(self._shapes))]
        self._shapes[file.digest] = shape
