"""docs/guides/kubectl.md shows what the commands print."""

import re
from pathlib import Path

import pytest
from click import Group

from ollama_fleet.cli.main import program
from tests.unit.cli.drawing import WIDTH, shown

GUIDE = (Path(__file__).parents[3] / "docs/guides/kubectl.md").read_text()
SHOWN = re.findall(
    r"^```console\n\$ kubectl ollama ([^\n]+)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE
)
LINES = re.findall(r"^kubectl ollama (.+?)(?: {2,}#.*)?$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize(("command", "text"), SHOWN, ids=[command for command, _ in SHOWN])
def test_what_the_guide_shows_is_what_is_printed(command: str, text: str) -> None:
    assert shown(command) == text


def test_nothing_is_shown_that_is_not_compared() -> None:
    assert len(SHOWN) == GUIDE.count("```console")


def test_every_table_is_shown() -> None:
    assert {command.split()[0] for command, _ in SHOWN} == {
        "status", "nodes", "models", "fit", "pull", "distribute", "doctor", "top",
    }  # fmt: skip


def test_what_is_shown_fits_a_terminal() -> None:
    for command, text in SHOWN:
        longest = max(len(line) for line in text.splitlines())
        assert longest <= WIDTH or command.startswith("pull"), command


def test_every_command_is_listed_and_no_other() -> None:
    table = re.findall(r"^\| (`.+?) \|", GUIDE, re.MULTILINE)
    listed = {word.split()[0] for row in table for word in re.findall(r"`([^`]+)`", row)}
    assert listed == set(program.commands)


@pytest.mark.parametrize("line", LINES)
def test_a_command_in_the_guide_can_be_understood(line: str) -> None:
    words = line.partition("<")[0].split()
    command = program.commands[words[0]]
    assert not isinstance(command, Group)
    command.make_context(words[0], words[1:])
