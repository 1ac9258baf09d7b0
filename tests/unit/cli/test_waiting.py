import io
import re

import pytest
from rich.console import Console

from ollama_fleet.cli.pulling import State, state_of
from ollama_fleet.cli.waiting import Bars, Lines
from tests.unit.cli.drawing import distribution, task

MODEL = "llama3.1:8b"
COLOUR = re.compile(r"\x1b\[[\d;]*3\dm")


def state(share: float) -> State:
    pulling = task("a-0", MODEL, progress=share, totalBytes=4e9, completedBytes=share * 4e9)
    return state_of(distribution(pulling), MODEL)


@pytest.mark.parametrize("no_color", [False, True])
def test_bars_move_on_a_terminal_with_colour_unless_that_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, no_color: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    bars = Bars(Console(file=file, force_terminal=True, width=100))
    with bars.screen():
        bars.show(state(0.25))
        bars.show(state(0.5))
        bars.note("still trying: no route")
    said = file.getvalue()
    assert "a-0" in said
    assert "2.0/4.0 GB" in said
    assert "still trying: no route" in said
    assert bool(COLOUR.search(said)) is not no_color


def test_lines_tell_what_is_new_and_nothing_twice() -> None:
    console = Console(file=io.StringIO(), width=100)
    lines = Lines(console)
    for share in (0.0, 0.1, 0.24, 0.25, 0.3):
        lines.show(state(share))
        lines.show(State([], waiting="waiting for the operator"))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        f"a-0: pulling {MODEL}, 0 % of 4.0 GB",
        "waiting for the operator",
        f"a-0: pulling {MODEL}, 25 % of 4.0 GB",
    ]
