"""What every command prints: on 80 columns, wide, as JSON and YAML, with colour and without."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from ollama_fleet.cli.screen import Screen
from tests.unit.cli.drawing import WIDTH
from tests.unit.cli.golden import FOLDER, documents, tables

COLOUR = re.compile(r"\x1b\[[\d;]*3\dm")
DOCUMENTS = documents()


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_what_is_printed_is_what_is_kept(path: Path) -> None:
    assert DOCUMENTS[path] == path.read_text()


def test_nothing_else_is_kept() -> None:
    assert set(FOLDER.iterdir()) == set(DOCUMENTS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_a_table_is_as_wide_as_a_terminal_and_loses_nothing(path: Path) -> None:
    if path.suffix != ".txt" or path.stem.endswith("-wide"):
        return
    text = DOCUMENTS[path]
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "…" not in text.replace("{sha256: …}", "")


@pytest.mark.parametrize("name", tables())
def test_nothing_drives_what_is_no_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    tables()[name](Screen.standard())
    said = capsys.readouterr().out
    assert said
    assert "\x1b" not in said


@pytest.mark.parametrize("no_color", [False, True])
@pytest.mark.parametrize("name", ["status", "top"])
def test_bars_are_coloured_unless_that_is_not_wanted(
    name: str, no_color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    tables()[name](Screen(Console(file=file, force_terminal=True, width=WIDTH, highlight=False)))
    assert bool(COLOUR.search(file.getvalue())) is not no_color
