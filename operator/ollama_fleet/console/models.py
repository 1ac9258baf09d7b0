"""What a model is made of, as its registry or else the catalogue says."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.names import ModelName
from ollama_fleet.console.refusal import Refusal
from ollama_fleet.ollama.errors import ModelNotFound, OllamaError
from ollama_fleet.ollama.gguf import GgufError
from ollama_fleet.ollama.registry import MODEL_LAYER, Manifest, RegistryClient
from ollama_fleet.plan.architecture import Architecture, architecture_of
from ollama_fleet.plan.catalogue import Offer
from ollama_fleet.plan.sizing import Weights

log = logging.getLogger(__name__)

BELIEVED = 300.0
"""Seconds for which a registry's answer is believed, and a tenth of that for a failure to ask."""
MOST = 512
"""Models remembered at once."""


@dataclass(frozen=True)
class Known:
    """A model: ``size`` is what is downloaded, in bytes."""

    name: str
    size: int
    weights: Weights
    architecture: Architecture | None
    source: str
    """registry or catalogue."""


class Models:
    """Asks registries, and remembers for a while."""

    def __init__(
        self,
        mirror: Mirror | None = None,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mirror = mirror
        self._timeout = timeout
        self._clock = clock
        self._kept: dict[str, tuple[float, Known | OllamaError]] = {}
        self._places = asyncio.Semaphore(8)

    async def of(self, name: str, offers: Iterable[Offer]) -> Known | None:
        """The model of that canonical name; None where the registry cannot be asked and the
        catalogue does not have it. Raises `Refusal` (404)."""
        until, found = self._kept.get(name, (0.0, OllamaError("not asked yet")))
        if until <= self._clock():
            found = await self._ask(name)
            worth = BELIEVED if isinstance(found, Known | ModelNotFound) else BELIEVED / 10
            self._kept.pop(name, None)
            while len(self._kept) >= MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = self._clock() + worth, found
        if isinstance(found, Known):
            return found
        if isinstance(found, ModelNotFound):
            raise Refusal(404, f"{found}: correct the name or its tag")
        offer = next((one for one in offers if one.name == name), None)
        if offer is None:
            return None
        return Known(name, offer.size, Weights(offer.size), offer.architecture, "catalogue")

    async def _ask(self, name: str) -> Known | OllamaError:
        asked = ModelName.parse(name)
        async with (
            self._places,
            RegistryClient(timeout=self._timeout, mirror=self._mirror) as client,
        ):
            try:
                async with asyncio.timeout(self._timeout):
                    manifest = await client.manifest(asked)
                architecture = await self._architecture(client, asked, manifest)
            except TimeoutError:
                return OllamaError("no answer in time")
            except OllamaError as error:
                log.info("%s is not known: %s", name, error)
                return error
        weights = Weights(*manifest.loaded)
        return Known(name, manifest.size, weights, architecture, "registry")

    async def _architecture(
        self, client: RegistryClient, name: ModelName, manifest: Manifest
    ) -> Architecture | None:
        file = next(iter(manifest.of_type(MODEL_LAYER)), None)
        if file is None:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                return architecture_of(await client.header(name, file))
        except (GgufError, OllamaError, TimeoutError) as error:
            log.info("%s is sized by its size alone: %s", name, error or "no answer")
            return None
