from copy import deepcopy
from typing import Any

import pytest

from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.retrying import given_up
from tests.unit.cli.drawing import distribution, task

MODEL = "llama3.1:8b"


def named(name: str, *states: str) -> dict[str, Any]:
    tasks = [task(f"a-{number}", MODEL, state) for number, state in enumerate(states)]
    made = deepcopy(distribution(*tasks))
    made["metadata"]["name"] = name
    return made


ALL = [named("bad", "Installed", "Failed"), named("worse", "Failed"), named("good", "Installed")]


@pytest.mark.parametrize(
    ("name", "found"),
    [("bad", ["bad"]), (MODEL, ["bad", "worse"]), (MODEL.upper(), ["bad", "worse"])],
)
def test_a_name_means_a_distribution_or_a_model(name: str, found: list[str]) -> None:
    assert [one["metadata"]["name"] for one in given_up(name, ALL, "llm")] == found


@pytest.mark.parametrize(
    ("name", "there", "why"),
    [
        ("good", ALL, "ModelDistribution good has given nothing up"),
        (MODEL, ALL[2:], "was given up nowhere"),
        ("x", ALL, "no ModelDistribution x in namespace llm, .* there are bad, good, worse"),
        ("x", [], "there are none"),
    ],
)
def test_what_was_not_given_up_is_told(name: str, there: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(NotPossible, match=why):
        given_up(name, there, "llm")
