"""What is on offer with what a ConfigMap says, be it what it may."""

import re
from pathlib import Path

import pytest
import yaml

from ollama_fleet.console.offers import LONGEST, NAME, offers_in
from ollama_fleet.plan.catalogue import BUILT_IN
from ollama_fleet.plan.sizing import GIB

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "sizing.md"


def config_map(**data: str) -> dict[str, object]:
    return {"metadata": {"name": NAME, "namespace": "fleet"}, "data": data}


def test_what_it_adds_is_on_offer_beside_what_is_built_in() -> None:
    text = """
- {name: team/own, displayName: 4.10, size: 8000000000, description: yes}
- {name: "llama3.1:8b", size: 16Gi}
"""
    found = offers_in(config_map(models=text))
    assert found.problem is None
    assert len(found.models) == len(BUILT_IN) + 1
    by_name = {offer.name: offer for offer in found.models}
    own = by_name["team/own:latest"]
    # as it is written, not as YAML would have it
    assert (own.display_name, own.size, own.description) == ("4.10", 8 * 10**9, "yes")
    assert by_name["llama3.1:8b"].size == 16 * GIB


@pytest.mark.parametrize("text", ["", "[]", "# none yet"])
def test_an_empty_list_adds_nothing(text: str) -> None:
    found = offers_in(config_map(models=text))
    assert (found.models, found.problem) == (list(BUILT_IN), None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("models: []", "models is no list of at most 256 models"),
        ("- {name: a}", "models[0].size: Field required"),
        ("- {name: a, size: 1G}\n- {name: b, size: some}", "models[1].size: 'some' is not"),
        ("- {name: a, size: 1G}\n- {name: b", "models, line 2: "),
        ("- {name: a, size: 1G}\n\t- b", "models, line 2: while scanning for the next token"),
        ("- &a [*a]", "models, line 1: found unconstructable recursive node"),
        ("- *a", "models, line 1: found undefined alias 'a'"),
        ("- ? {a: b}\n  : c", "models, line 1: while constructing a mapping, found un"),
        ("- !!python/object/apply:os.getcwd []", "models[0]: "),
        ("- !!timestamp x", "models[0]: "),
        ("- a\x00", "models is no YAML: "),
        ("--- []\n--- []", "models, line 2: expected a single document in the stream, but"),
        (5000 * "[", "models is nested too deeply"),
        (LONGEST * "#" + "#", "models is longer than 256 KiB"),
    ],
)
def test_what_is_wrong_is_told_and_the_rest_is_on_offer(text: str, problem: str) -> None:
    found = offers_in(config_map(models=text))
    assert found.models == list(BUILT_IN)
    assert found.problem is not None
    assert found.problem.startswith(f"ConfigMap fleet/{NAME}: {problem}")
    assert found.problem.endswith(". Correct it; none of it is offered.")
    assert "\n" not in found.problem


def test_an_entry_of_another_name_is_none() -> None:
    for given in (config_map(model="[]"), {"metadata": {"name": NAME, "namespace": "fleet"}}):
        found = offers_in(given)
        assert found.problem == (
            f"ConfigMap fleet/{NAME} has no entry models. Put the list of models there, as YAML."
        )


def test_the_example_in_the_guide_is_read() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (example,) = (one for one in map(yaml.safe_load, blocks) if one["kind"] == "ConfigMap")
    assert example["metadata"]["name"] == NAME
    found = offers_in(example)
    assert found.problem is None
    added = [offer.name for offer in found.models if offer not in BUILT_IN]
    assert added == ["llama3.1:8b", "registry.example.com/team/support:v2"]
