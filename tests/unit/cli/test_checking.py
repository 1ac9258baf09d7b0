from typing import Any

import pytest

from ollama_fleet.cli.checking import Installation, findings, missing
from ollama_fleet.cli.fleet import Fleet
from tests.unit.cli.drawing import deployment, sample

KINDS = ("ollamanodes", "modeldistributions", "routers")


def definition(plural: str, version: str = "v1alpha1", served: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{plural}.ollamafleet.dev"},
        "spec": {"versions": [{"name": version, "served": served}]},
    }


ALL = [definition(plural) for plural in KINDS]


def test_nothing_is_wrong_with_what_is_whole() -> None:
    assert findings(Installation(ALL, [deployment()]), Fleet()).rows == []


@pytest.mark.parametrize(
    ("there", "what", "finding"),
    [
        (Installation(ALL[1:], [deployment()]), "OllamaNode", "is not installed"),
        (
            Installation([*ALL[:2], definition("routers", served=False)], [deployment()]),
            "Router",
            "does not serve v1alpha1",
        ),
        (Installation(ALL, []), "operator", "helm upgrade --install"),
        (Installation(ALL, [deployment(0, 0)]), "operator ollama-fleet", "--replicas=1"),
        (Installation(ALL, [deployment(2, 1)]), "operator ollama-fleet", "1 of 2 replicas"),
        (Installation(None, [deployment()]), "CustomResourceDefinitions", "not checked"),
        (Installation(ALL, None), "operator", "not checked"),
    ],
)
def test_what_is_missing_is_told_with_its_fix(there: Installation, what: str, finding: str) -> None:
    (row,) = missing(there).rows
    assert row["what"] == what
    assert finding in row["finding"]


def test_what_a_fleet_lacks_is_told() -> None:
    fleet = sample()
    fleet.distributions[0]["metadata"]["generation"] += 1
    there = Installation(ALL, [deployment()])
    rows = findings(there, Fleet(fleet.ollamanodes, fleet.distributions)).rows
    told = {row["what"]: row["finding"] for row in rows}
    assert "newest spec" in told["ModelDistribution base"]
    assert "Lower spec.gpu.memory" in told["OllamaNode spare"]
    assert "clients reach no server" in told["Router"]
    assert {row["namespace"] for row in rows} == {"llm"}
