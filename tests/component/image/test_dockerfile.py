"""The image's build, step by step, in folders instead of layers.

Packages are the ones of this environment, so that nothing is downloaded; their hashes are pip's
to check when the image is built.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

from dev.generate import ROOT
from dev.packages import pins

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image would hold under /opt/ollama-fleet."""
    work = tmp_path_factory.mktemp("image")
    source, installed = work / "src", work / "opt"
    copy_sources(source)
    venv.create(installed)
    site = next(installed.glob("lib/python3*/site-packages"))
    (site / "pinned.pth").write_text(sysconfig.get_path("purelib"))
    steps = re.findall(r"^RUN (.*(?:/pip wheel|/build\.py) .*)$", DOCKERFILE, re.M)
    assert len(steps) == 2
    step = "\n".join(steps)
    for place, here in {
        "/opt/build/bin/pip": f"{sys.executable} -m pip",
        "/opt/build/bin/python": sys.executable,
        "/opt/ollama-fleet/bin/python": f"{installed}/bin/python",
        "/dist": str(work / "dist"),
    }.items():
        assert place in step
        step = step.replace(place, here)
    done = subprocess.run(
        ["sh", "-ec", step], cwd=source, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return installed


@pytest.mark.parametrize("program", PROJECT["scripts"])
def test_a_program_starts(image: Path, tmp_path: Path, program: str) -> None:
    done = subprocess.run(
        [str(image / "bin" / program), "--help"],
        cwd=tmp_path,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # one of them takes all it is given for words to complete
    assert (program if program != "kubectl_complete-ollama" else "--help\t") in done.stdout


def test_the_programs_come_from_the_image(image: Path, tmp_path: Path) -> None:
    command = [
        str(image / "bin" / "python"),
        "-c",
        "import ollama_fleet; print(ollama_fleet.__file__)",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(image)


def test_the_router_is_compiled(image: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            str(image / "bin" / "python"),
            "-c",
            "import ollama_fleet.router.front as front; print(front.__file__)",
        ],
        cwd=tmp_path,
        env={"PATH": os.defpath, "OLLAMA_FLEET_COMPILED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = Path(done.stdout.strip())
    assert loaded.is_relative_to(image)
    assert loaded.suffix == ".so"


def test_it_installs_what_is_tested_here() -> None:
    for file in ("requirements.txt", "requirements-build.txt"):
        for pin in pins((ROOT / file).read_text()):
            if pin.applies:
                wanted, found = pin.requirement, version(pin.requirement.name)
                assert found in wanted.specifier, f"{wanted} in {file}; run `make lock`"


def test_it_runs_as_nobody_without_a_shell() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.M)
    (command,) = re.findall(r'^CMD \["([\w-]+)"\]$', last, re.M)
    assert command in PROJECT["scripts"]
    assert "ENTRYPOINT" not in last
    label = re.search(r'image\.version="([^"]+)"', last)
    assert label
    assert label[1] == PROJECT["version"]


def copy_sources(target: Path) -> None:
    """What COPY finds where .dockerignore lets only some files through."""
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M)
    target.mkdir()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
        *names, place = line.split()
        for name in names:
            assert name in kept, f".dockerignore keeps {name} out"
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, target / place, ignore=ignored)
            else:
                shutil.copy(ROOT / name, target / place)
