"""Entries of a keys Secret: what they say, and what is wrong with them; no value is shown."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.api.keys import clients_in
from ollama_fleet.api.router import RouterSpec
from ollama_fleet.kube.access import value_of

A, B = "a" * 64, "b" * 64


def read(**entries: str) -> Any:
    return clients_in({name.replace("_", "-"): text for name, text in entries.items()}, value_of)


def test_entries_as_yaml_and_as_json() -> None:
    found = read(
        team_a=f"sha256: {A}\nmodels: [llama3.2:1b]\nrequestsPerMinute: 60\nweight: 2.5\n",
        team_b=f'{{"sha256": "{B.upper()}", "tokensPerMinute": 1000, "maxConcurrent": 4}}',
    )
    assert not found.faults
    one, other = found.good["team-a"], found.good["team-b"]
    assert (one.sha256, one.models, one.requests_per_minute) == (A, ["llama3.2:1b"], 60)
    assert (one.tokens_per_minute, one.max_concurrent, one.weight) == (None, None, 2.5)
    assert (other.sha256, other.models, other.weight) == (B, None, 1.0)
    assert (other.tokens_per_minute, other.max_concurrent) == (1000, 4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s3cret", "entry x: not a mapping: write {sha256: …}, with what this prints: printf"),
        ("", "entry x: not a mapping"),
        ("{", "entry x: not YAML: write {sha256: …}"),
        ("models: [a]", "entry x: sha256 is missing: write {sha256: …}"),
        ("sha256: s3cret", "entry x: sha256: not the SHA-256 of a key, 64 hexadecimal digits"),
        (f"sha256: {'1' * 64}", "entry x: sha256: not the SHA-256 of a key"),
        (f"{{sha256: {A}, requestPerMinute: 1}}", "entry x: requestPerMinute: there is no such"),
        (f"{{sha256: {A}, requestsPerMinute: 0}}", "entry x: requestsPerMinute: Input should be g"),
        (f"{{sha256: {A}, requestsPerMinute: many}}", "entry x: requestsPerMinute: Input should"),
        (f"{{sha256: {A}, weight: 0}}", "entry x: weight: Input should be greater than 0"),
        (f"{{sha256: {A}, models: []}}", "entry x: models: List should have at least 1 item"),
        (f"{{sha256: {A}, models: ['a b']}}", "entry x: models.0: 'a b' is not a model name"),
    ],
)
def test_mistakes(text: str, told: str) -> None:
    found = read(x=text, y=f"sha256: {B}")
    assert found.faults["x"].message.startswith(told)
    assert "s3cret" not in found.faults["x"].message + repr(found)
    assert list(found.good) == ["y"]


def test_no_two_clients_have_one_key() -> None:
    found = read(b=f"sha256: {A}", a=f"sha256: {A}")
    assert list(found.good) == ["a"]
    assert found.faults["b"].message.startswith("entry b: it has the same key as a")


ROOT = Path(__file__).parents[3]
SHOWN = [
    document
    for text in (
        (ROOT / "manifests/samples/keys.yaml").read_text(),
        *re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/guides/keys.md").read_text(), re.DOTALL),
    )
    for document in yaml.safe_load_all(text)
]


def test_what_the_guide_and_the_sample_show_is_valid() -> None:
    secrets = [one["stringData"] for one in SHOWN if one.get("kind") == "Secret"]
    files = [
        {name: yaml.safe_dump(value) for name, value in one.items()}
        for one in SHOWN
        if "team-a" in one
    ]
    assert len(secrets) == 2
    assert len(files) == 1
    for entries in secrets + files:
        assert not clients_in(entries, value_of).faults
    for one in SHOWN:
        if "spec" in one:
            RouterSpec.model_validate(one["spec"])
