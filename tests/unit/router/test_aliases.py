"""Which model answers where a name stands for several."""

from collections import Counter

import pytest

from ollama_fleet.api.alias import ModelRoute
from ollama_fleet.router.aliases import Alias, aliases_of
from ollama_fleet.router.breaker import Breaker
from ollama_fleet.router.snapshot import Endpoint, Load, Model, Server, Snapshot, State


def alias(targets: dict[str, int], *fallbacks: str) -> Alias:
    route = {
        "name": "Fast",
        "targets": [{"model": model, "weight": weight} for model, weight in targets.items()],
        "fallbacks": fallbacks,
    }
    return aliases_of([ModelRoute.model_validate(route)])["fast:latest"]


def holders(**models: State) -> Snapshot:
    """One server for each model, `a` being `a:latest`."""
    return Snapshot.of(
        Server(
            Endpoint(f"of-{name}", name, 1),
            Load(lambda: Breaker(3, 1, 1)),
            state,
            installed={f"{name}:latest": Model(f"{name}:latest", "")},
        )
        for name, state in models.items()
    )


READY, OFF = State.READY, State.OFFLINE


@pytest.mark.parametrize(
    ("named", "there", "chosen"),
    [
        (alias({"a": 1}), holders(a=READY), "a"),
        (alias({"A:latest": 1}), holders(a=READY), "A:latest"),
        (alias({"a": 1, "b": 1}), holders(b=READY), "b"),
        (alias({"a": 9, "b": 1}), holders(a=OFF, b=READY), "b"),
        (alias({"a": 0, "b": 1}, "c"), holders(a=READY, c=READY), "c"),
        (alias({"a": 1}, "b", "c"), holders(c=READY), "c"),
        (alias({"a": 1}, "b", "c"), holders(b=READY, c=READY), "b"),
        (alias({"a": 1}, "b", "c"), holders(a=OFF, b=OFF, c=READY), "c"),
        # nobody is ready: whoever will be
        (alias({"a": 1}, "b"), holders(a=OFF, b=OFF), "a"),
        (alias({"a": 1}, "b"), holders(b=OFF), "b"),
        (alias({"a": 1}, "b"), holders(d=READY), None),
        (alias({"a": 0, "b": 1}), holders(a=READY), None),
    ],
)
def test_choice(named: Alias, there: Snapshot, chosen: str | None) -> None:
    for draw in (0.0, 0.5, 0.999):
        target = named.choose(there.holders, draw)
        assert (target and target.model) == chosen


def test_each_target_has_its_share() -> None:
    named, there = alias({"a": 90, "b": 0, "c": 10}), holders(a=READY, b=READY, c=READY)
    drawn = [named.choose(there.holders, count / 1000) for count in range(1000)]
    assert Counter(target.model for target in drawn if target) == {"a": 900, "c": 100}


def test_it_is_listed_as_the_likeliest_that_is_there() -> None:
    named = alias({"a": 1, "b": 5, "c": 0}, "d")
    for offered, shown in (("ab", "b"), ("a", "a"), ("cd", "d"), ("c", None)):
        target = named.stands_for({f"{one}:latest" for one in offered})
        assert (target and target.model) == shown
