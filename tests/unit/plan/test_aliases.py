"""Names that a Router gives to models: refused, and listed."""

from typing import Any

import pytest

from ollama_fleet.api.router import RouterSpec
from ollama_fleet.plan import aliases
from tests.unit.plan.objects import DIGEST, probe, server
from tests.unit.plan.test_router import RUNNING, plan, ready

FAST = {"name": "Fast", "targets": [{"model": "llama3.1:8b"}, {"model": "later", "weight": 0}]}


def test_a_router_lists_names_that_stand_for_something() -> None:
    one = server(probe=probe(llama3_1__8b=DIGEST))
    none = {"name": "none", "targets": [{"model": "qwen3:4b"}]}
    made = plan({"models": [FAST, none]}, RUNNING, one)
    assert ready(made) == ("True", "Ready")
    assert made.status["models"] == ["Fast", "llama3.1:8b"]
    assert made.status["modelCount"] == 2


@pytest.mark.parametrize(
    ("route", "installed", "known"),
    [
        (FAST, [], []),
        (FAST, ["later:latest"], ["later:latest"]),
        (FAST, ["Llama3.1:8B"], ["Fast", "Llama3.1:8B"]),
        ({**FAST, "fallbacks": ["x"]}, ["x:latest"], ["Fast", "x:latest"]),
        ({"name": "x", "targets": [{"model": "y"}]}, ["x:latest", "y:latest"], ["x", "y:latest"]),
        ({"name": "x", "targets": [{"model": "y"}]}, ["X:latest"], []),
    ],
)
def test_known(route: dict[str, Any], installed: list[str], known: list[str]) -> None:
    routes = RouterSpec.model_validate({"models": [route]}).models
    assert aliases.known(routes, installed) == known


def test_a_router_with_names_in_a_circle_waits_and_is_told() -> None:
    circle = [
        {"name": "a", "targets": [{"model": "b"}]},
        {"name": "b", "targets": [{"model": "a"}]},
    ]
    made = plan({"models": circle}, RUNNING, server())
    assert made.apply == ()
    assert ready(made) == ("False", "InvalidSpec")
    message = made.status["conditions"][0]["message"]
    assert message.startswith("spec.models.0: 'b' behind 'a' is itself a name")
