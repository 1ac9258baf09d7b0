"""Specifications are read once, and what they want is known in the order they were made in."""

import pytest

from ollama_fleet.controllers.store import Store
from ollama_fleet.controllers.wanted import Wanted
from ollama_fleet.kube import Object
from ollama_fleet.plan.demands import demand_of


def distribution(name: str, created: str, generation: int = 1, model: str = "m") -> Object:
    return {
        "apiVersion": "ollamafleet.dev/v1alpha1",
        "kind": "ModelDistribution",
        "metadata": {
            "name": name,
            "namespace": "llm",
            "uid": f"{name}{created}",
            "resourceVersion": f"{created}{generation}",
            "generation": generation,
            "creationTimestamp": created,
        },
        "spec": {"models": [{"name": model}]},
    }


def test_each_is_read_once_and_again_when_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def reading(one: Object) -> object:
        read.append(one["metadata"]["name"])
        return demand_of(one)

    monkeypatch.setattr("ollama_fleet.controllers.wanted.demand_of", reading)
    store = Store()
    wanted = Wanted(store)
    store.put(distribution("b", "1"))
    store.put(distribution("a", "2"))
    assert [one.name for one in wanted.of("llm")] == ["b", "a"]
    assert wanted.of("elsewhere") == ()
    wanted.of("llm")
    assert sorted(read) == ["a", "b"]
    store.put(distribution("b", "1", 2, "n"))
    assert [model.name for one in wanted.of("llm") for model in one.models] == ["n", "m"]
    store.remove(distribution("b", "1", 2))
    assert [one.name for one in wanted.of("llm")] == ["a"]
    # deleted and made again, which begins with the first generation again
    store.put(distribution("b", "3", 1, "o"))
    assert [model.name for one in wanted.of("llm") for model in one.models] == ["m", "o"]


@pytest.mark.parametrize(
    ("spec", "models", "concerned"),
    [
        ({"models": [{"name": "m"}]}, {"m:latest", "n:latest"}, True),
        ({"models": [{"name": "M:Latest"}]}, {"m:latest"}, True),
        ({"models": [{"name": "m"}]}, {"m:1b", "n:latest"}, False),
        ({"models": [{"name": "m"}]}, set(), False),
        ({"models": [{"name": "m", "fallbacks": ["n"]}]}, {"n:latest"}, True),
        ({"tiers": [{"minMemory": "0", "models": [{"name": "n"}]}]}, {"n:latest"}, True),
        ({"bestFit": {"candidates": ["m", "n"]}}, {"n:latest"}, True),
        # it may delete whatever nobody names
        ({"models": [{"name": "m"}], "prune": "Unlisted"}, {"n:latest"}, True),
        ({"models": 3}, {"n:latest"}, True),
    ],
)
def test_whom_models_concern(spec: Object, models: set[str], concerned: bool) -> None:
    store = Store()
    wanted = Wanted(store)
    store.put({**distribution("a", "1"), "spec": spec})
    store.put(distribution("b", "2", model="other"))
    assert wanted.concerned("llm", "a", models) is concerned
    assert wanted.concerned("llm", "gone", models)
