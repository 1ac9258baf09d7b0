"""What all ModelDistributions of a namespace want of a server, together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from pydantic import ValidationError

from ollama_fleet.api.modeldistribution import ModelDistributionSpec, Target, WantedModel
from ollama_fleet.api.names import InvalidModelName, canonical
from ollama_fleet.api.servers import is_meant
from ollama_fleet.plan.choice import tier_of
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.servers import Server


@dataclass(frozen=True)
class Demand:
    """What one ModelDistribution wants. ``spec`` is None where it cannot be read: it may then
    want anything."""

    name: str
    created: str
    spec: ModelDistributionSpec | None

    def means(self, server: Server) -> bool:
        """Whether it may be about this server."""
        return self.spec is None or meant(self.spec.target, server)

    @cached_property
    def models(self) -> list[WantedModel]:
        """Every model that is listed for some server."""
        return named(self.spec) if self.spec is not None else []

    @cached_property
    def named(self) -> frozenset[str]:
        """Every model it names, fallbacks and candidates included, by key."""
        return frozenset(map(key, models_named(self.spec) if self.spec is not None else ()))

    @cached_property
    def pinning(self) -> bool:
        """Whether it pins any model, and is to be followed."""
        dry_run = self.spec is not None and self.spec.dry_run
        return not dry_run and any(one.digest for one in self.models)

    @cached_property
    def preloading(self) -> bool:
        """Whether it keeps any model in memory."""
        return any(one.preload for one in self.models)


def demand_of(distribution: Object) -> Demand:
    """What a ModelDistribution wants."""
    meta = distribution["metadata"]
    try:
        spec = ModelDistributionSpec.model_validate(distribution["spec"])
    except ValidationError:
        spec = None
    return Demand(meta["name"], meta.get("creationTimestamp") or "", spec)


def in_order(demands: Iterable[Demand]) -> tuple[Demand, ...]:
    """The oldest first: where two contradict each other, the first holds."""
    return tuple(sorted(demands, key=lambda demand: (demand.created, demand.name)))


def meant(target: Target, server: Server) -> bool:
    """Whether a target means a server: each given restriction must hold."""
    return (target.servers is None or server.name in target.servers) and is_meant(
        target.ollama_nodes, target.selector, server.ollamanode, server.labels
    )


def named(spec: ModelDistributionSpec) -> list[WantedModel]:
    """Every model that is listed for some server."""
    return [*(spec.models or ()), *(one for tier in spec.tiers or () for one in tier.models)]


def models_named(spec: ModelDistributionSpec) -> set[str]:
    """Every model the spec names, canonical: what the registry is asked about."""
    names = [name for model in named(spec) for name in (model.name, *model.fallbacks)]
    names += spec.best_fit.candidates if spec.best_fit else ()
    return {canonical(name) for name in names}


def listed(spec: ModelDistributionSpec, server: Server) -> list[WantedModel]:
    """The models listed for this server, by name or for its tier."""
    tier = tier_of(spec.tiers or (), server)
    return [*(spec.models or ()), *(tier.models if tier else ())]


@lru_cache(maxsize=4096)
def key(model: str) -> str:
    """A name to compare models by: Ollama makes no difference between cases."""
    try:
        return canonical(model).lower()
    except InvalidModelName:
        return model.lower()


@dataclass(frozen=True)
class Pin:
    """The digest that a model must have, and which ModelDistribution says so."""

    digest: str
    distribution: str


def pins_on(demands: Sequence[Demand], server: Server) -> dict[str, Pin]:
    """The pins that hold on a server, by key: each model's first."""
    found: dict[str, Pin] = {}
    for demand in demands:
        if demand.spec is None or not demand.pinning or not demand.means(server):
            continue
        for model in listed(demand.spec, server):
            if model.digest is not None:
                found.setdefault(key(model.name), Pin(model.digest, demand.name))
    return found
