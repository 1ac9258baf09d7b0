"""manifests/agent and the guide: they name settings and programs that there are."""

import io
import re
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.agent.settings import read

ROOT = Path(__file__).parents[3]
MANIFESTS = ROOT / "manifests" / "agent"
FILES = MANIFESTS / "machine"
GUIDE = (ROOT / "docs" / "guides" / "agent.md").read_text()
OTHERS = {"OLLAMA_MODELS", "NVIDIA_DRIVER_CAPABILITIES"}


def compose(name: str) -> dict[str, Any]:
    agent: dict[str, Any] = yaml.safe_load((FILES / name).read_text())["services"]["agent"]
    return agent


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Each setting's flag, by its name in the environment."""
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told):
        patch.setenv("COLUMNS", "1000")
        with pytest.raises(SystemExit):
            read(["--help"], {}, "box")
    line = re.compile(r"^  (--[a-z-]+) [A-Z]+\s+[^\n]*\(([A-Z_]+)[;)]", re.MULTILINE)
    found = line.findall(told.getvalue())
    return {name: flag for flag, name in found}


def test_the_guide_names_every_setting(settings: dict[str, str]) -> None:
    rows = re.findall(r"^\| `([A-Z_]+)`.*? \| `(--[a-z-]+)` \|", GUIDE, re.MULTILINE)
    assert dict(rows) == settings
    assert len(settings) == 10


@pytest.mark.parametrize("name", ["compose.yaml", "compose.nvidia.yaml"])
def test_compose_sets_what_there_is(settings: dict[str, str], name: str) -> None:
    assert set(compose(name)["environment"]) <= {*settings, *OTHERS}


def test_the_program_is_the_one_that_is_installed(settings: dict[str, str]) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    unit = (FILES / "ollama-fleet-agent.service").read_text()
    (started,) = re.findall(r"^ExecStart=/opt/ollama-fleet/bin/(\S+)$", unit, re.MULTILINE)
    assert started in scripts
    assert compose("compose.yaml")["command"] == [started]
    assert set(re.findall(r"^Environment=([A-Z_]+)=", unit, re.MULTILINE)) <= set(settings)
    env = (FILES / "agent.env").read_text()
    assert set(re.findall(r"^([A-Z_]+)=", env, re.MULTILINE)) <= set(settings)


def test_the_account_may_register_and_nothing_else() -> None:
    objects = list(yaml.safe_load_all((MANIFESTS / "serviceaccount.yaml").read_text()))
    (role,) = [one for one in objects if one["kind"] == "Role"]
    assert role["rules"] == [
        {
            "apiGroups": ["ollamafleet.dev"],
            "resources": ["ollamanodes"],
            "verbs": ["get", "list", "create", "patch"],
        }
    ]
    assert {one["kind"] for one in objects} == {"ServiceAccount", "Secret", "Role", "RoleBinding"}
