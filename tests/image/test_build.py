"""The image, built in earnest: every step of the Dockerfile, in a container's own files.

`make image-test` runs it, as it needs root, buildah, debootstrap and the package indexes. The base
is a Debian with its own Python instead of python:slim, so versions of that are not what is tested.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.generate import ROOT
from tests.image.buildah import STAND_IN, Buildah, missing

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
IMAGE = "localhost/ollama-fleet"
INSTALLED = "/opt/ollama-fleet"
MIB = 2**20


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """The image is in it."""
    if lacking := missing():
        pytest.skip(f"building the image needs {lacking}")
    made = Buildah(tmp_path_factory.mktemp("buildah"))
    made.make_stand_in()
    made.build(ROOT, IMAGE, PYTHON=STAND_IN)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def container(buildah: Buildah) -> str:
    return buildah.container(IMAGE)


@pytest.mark.parametrize("program", PROJECT["scripts"])
def test_a_program_starts(buildah: Buildah, container: str, program: str) -> None:
    # one of them takes all it is given for words to complete
    told = "--help\t" if program == "kubectl_complete-ollama" else f"usage: {program}"
    assert told in buildah.run(container, program, "--help").lower()


def test_the_router_is_compiled(buildah: Buildah, container: str) -> None:
    source = "import ollama_fleet.router.front as front; print(front.__file__)"
    loaded = Path(buildah.run(container, "python", "-c", source).strip())
    assert loaded.is_relative_to(INSTALLED)
    assert loaded.suffix == ".so"


def test_it_holds_what_is_pinned_and_nothing_else(buildah: Buildah, container: str) -> None:
    source = (
        "import importlib.metadata as m, re, sys;"
        "print(*(re.sub('[-_.]+', '-', d.name).lower() + '==' + d.version"
        f" for d in m.distributions() if d._path.is_relative_to('{INSTALLED}')))"
    )
    held = set(buildah.run(container, "python", "-c", source).split())
    pinned = PINNED.findall((ROOT / "requirements.txt").read_text())
    assert held <= {
        f"{PROJECT['name']}=={PROJECT['version']}",
        *(f"{name}=={version}" for name, version in pinned),
    }
    # some are pinned for other systems alone
    assert len(held) > 0.8 * len(pinned)


def test_it_runs_as_nobody_who_can_write_nothing(buildah: Buildah, container: str) -> None:
    assert buildah.run(container, "sh", "-c", "id -u; id -G").split() == ["65532", "65532"]
    # where it may not look it cannot write either
    find = "find / -xdev -type f -writable 2>/dev/null || true"
    assert buildah.run(container, "sh", "-c", find) == ""


def test_no_compiler_is_left_in_it(buildah: Buildah, container: str) -> None:
    assert buildah.run(container, "sh", "-c", "command -v gcc cc pip setuptools || true") == ""


def test_it_says_what_it_is(buildah: Buildah) -> None:
    said = buildah.config(IMAGE)
    assert said["Cmd"][0] in PROJECT["scripts"]
    labels = {
        label.removeprefix("org.opencontainers.image."): value
        for label, value in said["Labels"].items()
    }
    assert labels["version"] == PROJECT["version"]
    assert labels["licenses"] == PROJECT["license"]
    assert labels["base.name"] == STAND_IN
    assert {"title", "description"} <= labels.keys()


def test_it_is_small(buildah: Buildah, container: str) -> None:
    kib = int(buildah.run(container, "du", "-sk", INSTALLED).split()[0])
    assert kib * 1024 < 210 * MIB
