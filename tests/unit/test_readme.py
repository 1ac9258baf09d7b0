import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.api.modeldistribution import ModelDistribution
from ollama_fleet.api.ollamanode import OllamaNode
from ollama_fleet.api.router import Router
from ollama_fleet.plan import unsupported
from ollama_fleet.router.config import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
MODELS = {"OllamaNode": OllamaNode, "ModelDistribution": ModelDistribution, "Router": Router}


def yaml_blocks() -> list[Any]:
    return [
        document
        for language, text in BLOCKS
        if language == "yaml"
        for document in yaml.safe_load_all(text)
    ]


@pytest.mark.parametrize(
    "document", [one for one in yaml_blocks() if "kind" in one], ids=lambda one: one["kind"]
)
def test_the_resources_shown_are_valid_and_served(document: dict[str, Any]) -> None:
    MODELS[document["kind"]].model_validate(document)
    if document["kind"] == "Router":
        assert unsupported.router(document["spec"], "") is None


def test_all_three_kinds_are_shown() -> None:
    assert {one["kind"] for one in yaml_blocks() if "kind" in one} == set(MODELS)


def test_the_lone_routers_configuration_is_accepted(tmp_path: Path) -> None:
    (config,) = [one for one in yaml_blocks() if "backends" in one]
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config))
    assert len(load(path).backends) == 2


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake\s+([a-z]+(?:-[a-z]+)*)`", README))
    named |= {
        line.split()[1]
        for _, text in BLOCKS
        for line in text.splitlines()
        if line.startswith("make ")
    }
    assert {"demo", "test", "cluster", "cluster-down"} <= named <= targets


def test_ci_runs_the_tests_as_the_readme_says() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line]
    assert commands[-1] == "make test"
    assert "make test" in [line for _, text in BLOCKS for line in text.splitlines()]
