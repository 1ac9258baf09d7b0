import logging
import sys
from collections.abc import Callable

import pytest

from ollama_fleet.cli import main
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.session import told
from ollama_fleet.kube import Forbidden
from tests.unit.cli.drawing import drawn

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The program with these arguments; exit code, stdout, stderr."""
    monkeypatch.setattr(logging, "disable", lambda level: None)

    def program(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [main.PROGRAM, *arguments])
        code = 0
        try:
            main.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return program


def test_without_arguments_it_says_what_there_is(run: Run) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    assert "doctor" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["xyz"], "error: No such command 'xyz'. See kubectl-ollama --help.\n"),
        (["pull"], "error: Missing argument 'MODEL'. See kubectl-ollama pull --help.\n"),
        (["keys", "create"], "error: Missing argument 'CLIENT'. See kubectl-ollama keys create"),
    ],
)
def test_what_cannot_be_understood_is_one_line(
    run: Run, arguments: list[str], message: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_a_mistake_of_its_own_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise KeyError("status\nof nothing")

    monkeypatch.setattr(main, "program", broken)
    code, _, err = run()
    assert code == 1
    assert err.startswith("error: kubectl-ollama itself is wrong here (KeyError: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_it(run: Run, shell: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_KUBECTL_OLLAMA_COMPLETE" in out


def test_a_shell_is_told_models(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_KUBECTL_OLLAMA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "kubectl-ollama pull llama3.3")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run()[1] == "plain,llama3.3:70b\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NotPossible("no such\nthing"), "error: no such thing\n"),
        (Forbidden(403, "Forbidden", "you cannot"), "error: you cannot. Ask for that right"),
    ],
)
def test_what_goes_wrong_is_told(
    capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    def work() -> int:
        raise error

    assert told(work) == 1
    assert capsys.readouterr().err.startswith(message)


def test_a_message_does_not_drive_the_terminal() -> None:
    assert drawn(lambda screen: screen.line("a\x1b[2Jb")) == "a^[[2Jb\n"
