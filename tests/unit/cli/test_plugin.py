import pytest

from ollama_fleet.cli.plugin import answer


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["keys", "cr"], ["create	Make a key for CLIENT, and print it.", ":4"]),
        (["completion", "z"], ["zsh", ":4"]),
        (["pull", "llama3.3"], ["llama3.3:70b", ":4"]),
        (["logs", "r"], ["router", ":4"]),
        (["logs", "router", "--fol"], ["--follow\tGo on as more is written, until Ctrl-C.", ":4"]),
        (["distribute", "--dry-run", ""], ["client", "server", ":4"]),
        (["distribute", "--dry-run=s"], ["server", ":4"]),
        (["pull", "llama3.1:8b", "--to", ""], [":4"]),
    ],
)
def test_kubectl_is_told_what_it_may_be(words: list[str], lines: list[str]) -> None:
    assert answer(words) == lines


def test_without_a_word_all_commands_are_told() -> None:
    assert answer([]) == answer([""])
    assert len(answer([])) > 10


def test_no_description_is_cut_short() -> None:
    assert not [line for line in answer([]) if "..." in line]
