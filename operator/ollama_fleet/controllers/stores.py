"""Where servers keep models: the volumes in the store, and those that only OllamaNodes name."""

from collections import defaultdict

from ollama_fleet.controllers.context import Context
from ollama_fleet.controllers.facts import RegistryFacts
from ollama_fleet.controllers.remembered import Remembered
from ollama_fleet.controllers.shapes import Shapes
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import PERSISTENT_VOLUME_CLAIM
from ollama_fleet.plan.disk import Disks


class Stores:
    """What is known of stores and of what lies in them."""

    def __init__(self, context: Context, facts: RegistryFacts, shapes: Shapes) -> None:
        self._context = context
        self._facts = facts
        self._shapes = shapes
        self._named: dict[tuple[str, str], Object] = {}
        """The claims that OllamaNodes name, by namespace and OllamaNode: the operator did not make
        them, so no watch shows them."""
        self._disks: dict[str, Remembered[Disks]] = defaultdict(Remembered)

    async def look(self, node: Object) -> float | None:
        """Read the claim that an OllamaNode names, if it does; seconds until the next look."""
        meta = node["metadata"]
        name = (node["spec"].get("storage") or {}).get("existingClaim")
        claim = None
        if name:
            kube = self._context.kube
            claim = await kube.get(PERSISTENT_VOLUME_CLAIM, name, meta["namespace"])
        self.forget(meta["namespace"], meta["name"])
        if claim is not None:
            self._named[meta["namespace"], meta["name"]] = claim
        return self._context.settings.probe_interval if name else None

    def forget(self, namespace: str, ollamanode: str) -> None:
        """An OllamaNode is gone, or names no claim any more."""
        self._named.pop((namespace, ollamanode), None)

    def of(self, namespace: str) -> Disks:
        """What there is in a namespace."""
        named = [claim for (place, _), claim in self._named.items() if place == namespace]
        store, layers = self._context.store, self._facts.layers
        versions = tuple(claim["metadata"]["resourceVersion"] for claim in named)
        key = (store.revision(PERSISTENT_VOLUME_CLAIM, namespace), versions, len(layers))

        def read() -> Disks:
            own = store.list(PERSISTENT_VOLUME_CLAIM, namespace)
            claims = {claim["metadata"]["name"]: claim for claim in (*named, *own)}
            return Disks(claims, layers, self._shapes.known)

        return self._disks[namespace].of(key, read)
