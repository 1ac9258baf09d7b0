"""The `ollama` command line, led to a router by OLLAMA_HOST."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Protocol

import pytest

from dev.ollama import binary
from dev.ollama.library import answer
from tests.cluster.waiting import eventually
from tests.component.clients.conftest import CALLER, CHAT, EMBED, SHORT, Fleet

_SCREEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Run(Protocol):
    def __call__(self, *arguments: str, operators: bool = False) -> tuple[int, str, str]: ...


@pytest.fixture
def ollama(fleet: Fleet, tmp_path: Path) -> Run:
    """Runs it; gives its exit status and what it says, without what moves the cursor."""
    program = binary.ensure()

    def run(*arguments: str, operators: bool = False) -> tuple[int, str, str]:
        host = fleet.operators_url if operators else fleet.url
        done = subprocess.run(
            [program, *arguments],
            env={**os.environ, "OLLAMA_HOST": host, "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout, _SCREEN.sub("", done.stderr).strip()

    return run


def test_list(ollama: Run) -> None:
    status, said, _ = ollama("list")
    assert status == 0
    names = {line.split()[0] for line in said.splitlines()[1:]}
    assert names == {"assistant", CALLER, CHAT, EMBED}


def test_run(ollama: Run) -> None:
    assert ollama("run", CHAT, "hi")[:2] == (0, f"{answer(CHAT)}\n\n")
    assert ollama("run", "assistant", "hi")[:2] == (0, f"{SHORT}\n\n")
    assert ollama("run", "--keepalive", "1h", "assistant", "hi")[:2] == (0, f"{SHORT}\n\n")
    status, said, _ = ollama("run", EMBED, "hi")
    assert status == 0
    assert said.startswith("[")


def test_show(ollama: Run) -> None:
    status, said, _ = ollama("show", "assistant")
    assert status == 0
    assert re.search(r"architecture +llama", said)


def test_version(ollama: Run) -> None:
    assert ollama("--version")[1] == f"ollama version is {binary.VERSION}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "no-such", "hi"), "ask the people who run this fleet to add the model to one"),
        (("pull", "no-such"), "ask the people who run this fleet to add the model to one"),
        (("show", "no-such"), "model 'no-such' not found"),
        (("run", "gpt-oss:120b-cloud", "hi"), "runs in a cloud"),
        (("run", "evil.example/team/x", "hi"), "without a registry's host"),
        (("ps",), "which models are in memory is shown to operators only"),
        (("stop", CHAT), "models are unloaded by the fleet, not by clients"),
        (("rm", CHAT), "models are removed by ModelDistribution resources"),
        (("cp", CHAT, "mine"), "models are named by Router and ModelDistribution resources"),
    ],
)
def test_errors(ollama: Run, arguments: tuple[str, ...], told: str) -> None:
    status, _, said = ollama(*arguments)
    assert status == 1
    assert told in said


def test_operators_see_what_is_in_memory(ollama: Run) -> None:
    ollama("run", CHAT, "hi")

    def resident() -> bool:
        status, said, _ = ollama("ps", operators=True)
        assert status == 0
        return CHAT in said

    eventually("the router has seen it", resident)
