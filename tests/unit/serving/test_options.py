"""Options that several programs have."""

import argparse
from pathlib import Path

import pytest

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.quantity import seconds_of
from ollama_fleet.serving import options
from ollama_fleet.serving.options import add_mirror, argument, count, mirror, own_namespace


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_mirror(made, "to ask")
    made.add_argument("--count", type=count)
    made.add_argument("--time", type=argument(seconds_of))
    return made


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--mirror=a b", "'a b' is no address: write mirror.models.svc:5000"),
        ("--count=0", "'0' is no count: give a number of at least 1"),
        ("--count=-1", "'-1' is no count"),
        ("--count=²", "'²' is no count"),
        ("--time=5", "is not a duration: write 20s"),
    ],
)
def test_what_is_not_taken(given: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([given])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ([], None),
        (["--mirror="], None),
        (["--mirror=m:5000"], Mirror("m:5000", frozenset(("registry.ollama.ai", "hf.co")))),
        (["--mirror=m", "--mirror-registry=A.b,c"], Mirror("m", frozenset(("a.b", "c")))),
    ],
)
def test_the_mirror(given: list[str], made: Mirror | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OLLAMA_FLEET_MIRROR", "OLLAMA_FLEET_MIRROR_REGISTRIES"):
        monkeypatch.delenv(name, raising=False)
    assert mirror(parser().parse_args(given)) == made


def test_where_a_program_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(options, "_POD_NAMESPACE", tmp_path / "namespace")
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    assert own_namespace() == "default"
    (tmp_path / "namespace").write_text("fleet\n")
    assert own_namespace() == "fleet"
    monkeypatch.setenv("POD_NAMESPACE", "told")
    assert own_namespace() == "told"
