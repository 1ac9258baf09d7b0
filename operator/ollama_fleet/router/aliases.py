"""Names that stand for installed models: which of them answers a request."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ollama_fleet.api.alias import ModelRoute
from ollama_fleet.router.choose import drawn
from ollama_fleet.router.names import lookup_key
from ollama_fleet.router.snapshot import Server, State


class Target(NamedTuple):
    """A model behind a name, as a server is asked for it, and its lookup key."""

    model: str
    key: str
    weight: int


@dataclass(frozen=True, slots=True)
class Alias:
    """A name, what stands behind it, and options where a request sets none."""

    name: str
    targets: tuple[Target, ...]
    fallbacks: tuple[Target, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def choose(self, holders: Mapping[str, Sequence[Server]], draw: float) -> Target | None:
        """The model that answers: a target that a ready server has, drawn by weight, or else the
        first such fallback.

        Where no server is ready, one that a server will have; None where no server has any.
        `draw` is uniform in [0, 1).
        """
        for is_had in (_is_ready, bool):
            targets = [one for one in self.targets if one.weight and is_had(holders.get(one.key))]
            if targets:
                return targets[drawn([one.weight for one in targets], draw)]
            for one in self.fallbacks:
                if is_had(holders.get(one.key)):
                    return one
        return None

    def stands_for(self, offered: Container[str]) -> Target | None:
        """The model that it is listed as: of those offered, by lookup key, the likeliest."""
        targets = [one for one in self.targets if one.weight and one.key in offered]
        if targets:
            return max(targets, key=lambda one: one.weight)
        return next((one for one in self.fallbacks if one.key in offered), None)

    @property
    def models(self) -> Iterator[Target]:
        """Every model that may answer."""
        yield from (one for one in self.targets if one.weight)
        yield from self.fallbacks


def aliases_of(routes: Iterable[ModelRoute]) -> dict[str, Alias]:
    """Aliases by lookup key."""
    return {
        lookup_key(route.name): Alias(
            route.name,
            tuple(_target(one.model, one.weight) for one in route.targets),
            tuple(_target(name, 1) for name in route.fallbacks),
            route.defaults.given(),
        )
        for route in routes
    }


def _target(model: str, weight: int) -> Target:
    return Target(model, lookup_key(model), weight)


def _is_ready(servers: Sequence[Server] | None) -> bool:
    return any(server.state is State.READY for server in servers or ())
