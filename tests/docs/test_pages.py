"""Every command of the README and of docs is run here as it stands, and does what the page says.

What cannot be run here says why, in a comment before it (see `pages`). All pages share one cluster,
which the commands of docs/guides/cluster.md set up; each leaves it as that page did.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.chart import find_helm, render
from ollama_fleet.router.config import load
from tests.docs.pages import COMMANDS, ROOT, Block, Command, answers, blocks, commands, every, name
from tests.docs.shell import Shell

FIRST = ROOT / "docs" / "guides" / "cluster.md"
WITHIN = 180.0
AGAIN = re.compile(r"(\w+=\S+ )*(kubectl (get|describe|logs) |curl |ollama )")
"""Commands that are typed again until they print what is shown, as they change nothing then."""
_HOSTS = count(1)
_MINIMAL: dict[str, dict[str, Any]] = {
    "OllamaNode": {"replicas": 1, "storage": {"ephemeral": True}},
    "ModelDistribution": {"models": [{"name": "llama3.2:1b"}]},
    "Router": {},
}
_ALTERNATIVES = {
    "OllamaNode": ("replicas", "perNode", "external"),
    "ModelDistribution": ("models", "tiers", "bestFit"),
    "Router": (),
}

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def started(open_shell: Callable[[], Shell]) -> None:
    """The cluster as the page for beginners leaves it."""
    with open_shell() as shell:
        follow(FIRST, shell)


def follow(page: Path, shell: Shell) -> None:
    """Type what a page says.

    A loopback address of its own stands for 127.0.0.1, so that the ports which pages name are free.
    """
    host = f"127.77.0.{next(_HOSTS)}"

    def here(text: str) -> str:
        return text.replace("127.0.0.1", host).replace("localhost", host)

    for block in blocks(page):
        if file := block.notes.get("file"):
            (shell.folder / file).write_text(here(block.text))
        if block.language not in COMMANDS or {"not run", "as in"} & block.notes.keys():
            continue
        typed = commands(block)
        for command in typed:
            moved = Command(command.line, here(command.text), tuple(map(here, command.answer)))
            where = f"{name(page)}:{command.line}: {command.text}"
            if "background" in block.notes:
                begin(moved, shell, where)
            else:
                refused = "refused" in block.notes and command is typed[-1]
                perform(moved, shell, where, refused=refused)


def begin(command: Command, shell: Shell, where: str) -> None:
    output = shell.begin(command.text)
    deadline = time.monotonic() + WITHIN
    while not answers(command.answer, output.read_text()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{where}\nprints\n{output.read_text()}")
        time.sleep(0.1)


def perform(command: Command, shell: Shell, where: str, *, refused: bool) -> None:
    """AssertionError where it fails, or prints something else than is shown."""
    deadline = time.monotonic() + WITHIN
    while True:
        status, printed = shell.type(command.text, WITHIN)
        good = (status != 0) == refused and (not command.answer or answers(command.answer, printed))
        if good:
            return
        if not AGAIN.match(command.text) or time.monotonic() > deadline:
            break
        time.sleep(0.3)
    shown = "\n".join(command.answer)
    raise AssertionError(f"{where}\nended with {status} and printed\n{printed}\nshown is\n{shown}")


@pytest.mark.parametrize("page", every(), ids=name)
def test_every_command_does_what_the_page_says(
    page: Path, started: None, open_shell: Callable[[], Shell]
) -> None:
    if page != FIRST:
        with open_shell() as shell:
            follow(page, shell)


@pytest.mark.parametrize(
    "block",
    [
        block
        for page in every()
        for block in blocks(page)
        if block.language == "yaml" and "not run" not in block.notes
    ],
    ids=lambda block: block.where,
)
def test_yaml_is_accepted(
    block: Block, started: None, kubectl: Kubectl, say: Callable[[str], None], tmp_path: Path
) -> None:
    documents = [one for one in yaml.safe_load_all(block.text) if one]
    if "values" in block.notes:
        render(find_helm(say), values=documents[0])
        return
    if "backends" in documents[0]:
        (tmp_path / "router.yaml").write_text(block.text)
        load(tmp_path / "router.yaml")
        return
    for document in documents:
        complete(document)
        if namespace := document["metadata"].get("namespace"):
            kubectl("create", "namespace", namespace)
    text = yaml.safe_dump_all(documents)
    done = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr


def complete(document: dict[str, Any]) -> None:
    """Make a part that a page shows of one of our kinds a whole."""
    kind = document["kind"]
    document.setdefault("metadata", {"name": "shown"})
    if kind in _MINIMAL and "apiVersion" not in document:
        document["apiVersion"] = "ollamafleet.dev/v1alpha1"
        if not set(_ALTERNATIVES[kind]) & document["spec"].keys():
            document["spec"] = {**_MINIMAL[kind], **document["spec"]}
