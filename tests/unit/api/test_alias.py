"""Names must not contradict each other."""

from typing import Any

import pytest
from pydantic import ValidationError

from ollama_fleet.api.alias import Defaults, ModelRoute, fault


def route(name: str, models: list[str], *fallbacks: str) -> ModelRoute:
    targets = [{"model": one} for one in models]
    return ModelRoute.model_validate({"name": name, "targets": targets, "fallbacks": fallbacks})


def routes(*pairs: tuple[str, list[str]]) -> list[ModelRoute]:
    return [route(*pair) for pair in pairs]


@pytest.mark.parametrize(
    "good",
    [
        routes(),
        routes(("fast", ["llama3.2:3b", "qwen3:4b"]), ("smart", ["qwen3:4b"])),
        routes(("llama3.1:8b", ["llama3.1:8b", "llama3.1:8b-next"])),
        # in front of an installed model that has a canary in its place
        routes(("prod", ["llama3.1:8b"]), ("llama3.1:8b", ["llama3.1:8b", "next"])),
        routes(("retired:7b", ["llama3.1:8b"])),
    ],
)
def test_good(good: list[ModelRoute]) -> None:
    assert fault(good) is None


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (
            routes(("a", ["b"]), ("b", ["a"])),
            "models.0: 'b' behind 'a' is itself a name that stands for 'a': write installed models",
        ),
        (routes(("a", ["x"]), ("b", ["A:latest"])), "models.1: 'A:latest' behind 'b' is itself a"),
        ([route("a", ["x"]), route("b", ["y"], "a")], "models.1: 'a' behind 'b'"),
        (
            routes(("fast", ["x"]), ("Fast:latest", ["y"])),
            "models.1.name: 'Fast:latest' and 'fast' are one name: keep one of them",
        ),
    ],
)
def test_bad(bad: list[ModelRoute], told: str) -> None:
    said = fault(bad)
    assert said is not None
    assert said.startswith(told)


def test_cloud_models_stand_behind_no_name() -> None:
    with pytest.raises(ValidationError, match="a cloud model"):
        routes(("fast", ["gpt-oss:120b-cloud"]))


@pytest.mark.parametrize(
    "bad",
    [{"temperature": 3}, {"top_p": 1.5}, {"num_predict": 0}, {"seed": -1}, {"stop": [""]}],
)
def test_defaults_out_of_bounds(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Defaults.model_validate(bad)


def test_defaults_are_by_ollamas_names() -> None:
    read = Defaults.model_validate({"top_p": 0.5, "num_predict": 9, "temperature": 0})
    assert read.given() == read.wire() == {"top_p": 0.5, "num_predict": 9, "temperature": 0}
