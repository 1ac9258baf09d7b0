from typing import Any

import pytest

from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import Fleet
from ollama_fleet.cli.pulling import (
    NAME,
    distribution,
    manager,
    name_for,
    refusal,
    state_of,
    target,
)
from tests.unit.cli import drawing
from tests.unit.cli.drawing import sample, task

MODEL = "llama3.1:8b"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([], {}),
        (["fleet"], {"ollamaNodes": ["fleet"]}),
        (["spare", "fleet", "spare"], {"ollamaNodes": ["fleet", "spare"]}),
        (["fleet-gpu-12g"], {"servers": ["fleet-gpu-12g"]}),
    ],
)
def test_names_mean_ollamanodes_or_servers(names: list[str], wanted: dict[str, Any]) -> None:
    assert target(names, sample()) == wanted


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["x"], "no OllamaNode or server is called x: OllamaNodes here are fleet, spare"),
        (["fleet", "fleet-gpu-12g"], "one after the other"),
    ],
)
def test_other_names_are_refused(names: list[str], why: str) -> None:
    with pytest.raises(NotPossible, match=why):
        target(names, sample())


def test_a_target_has_a_name_of_its_own() -> None:
    targets: list[dict[str, list[str]]] = [
        {},
        {"ollamaNodes": ["a"]},
        {"ollamaNodes": ["a-b"]},
        {"ollamaNodes": ["a", "b"]},
        {"servers": ["a"]},
        {"servers": ["a", "b"]},
        {"ollamaNodes": ["a" * 63]},
        {"ollamaNodes": ["a" * 62 + "b"]},
    ]
    names = [name_for(one) for one in targets]
    assert names[:3] == [NAME, "pulled-a", "pulled-a-b"]
    assert len(set(names)) == len(targets)
    assert max(len(name) for name in names) <= 63


def test_only_the_model_and_the_target_are_applied_each_model_by_a_manager_of_its_own() -> None:
    assert distribution("d", "llm", MODEL, {})["spec"] == {"models": [{"name": MODEL}]}
    wanted = {"ollamaNodes": ["a"]}
    assert distribution("d", "llm", MODEL, wanted)["spec"]["target"] == wanted
    assert manager(MODEL) == manager(MODEL.upper()) != manager("llama3.1:70b")


@pytest.mark.parametrize(
    ("spec", "to", "why"),
    [
        ({}, {}, None),
        ({"target": {"ollamaNodes": ["a"]}}, {}, None),
        ({"target": {"ollamaNodes": ["a"]}}, {"ollamaNodes": ["a"]}, None),
        ({"target": {"ollamaNodes": ["a"]}}, {"ollamaNodes": ["b"]}, "for other servers"),
        ({}, {"ollamaNodes": ["b"]}, "for other servers"),
        ({"suspend": True}, {}, "suspend: true"),
        ({"dryRun": True}, {}, "dryRun: true"),
        ({"pullPolicy": "Never"}, {}, "pullPolicy: Never"),
    ],
)
def test_what_is_not_to_be_extended(spec: Any, to: Any, why: str | None) -> None:
    found = refusal({"metadata": {"name": "d"}, "spec": spec}, to)
    assert (found is None) if why is None else (found is not None and why in found)


HERE = task("a", MODEL, "Installed")
GONE = task("b", MODEL, "Failed", message="the disk is full")
SMALL = task("b", MODEL, "Misfit", message="needs 7 GiB")
OTHER = task("a", "qwen3:4b", "Failed", message="not ours")


@pytest.mark.parametrize(
    ("obj", "ended", "problems"),
    [
        (drawing.distribution(), False, 0),
        (drawing.distribution(HERE, task("b", MODEL)), False, 0),
        (drawing.distribution(HERE, task("b", MODEL, "Waiting")), False, 0),
        (drawing.distribution(HERE, GONE), True, 1),
        (drawing.distribution(GONE, task("a", MODEL)), False, 0),
        (drawing.distribution(HERE, SMALL, Stalled="needs 7 GiB"), True, 1),
        (drawing.distribution(HERE, OTHER, Stalled="not ours"), True, 0),
        (drawing.distribution(HERE, task("b", MODEL), OTHER, Stalled="not ours"), False, 0),
        (drawing.distribution(HERE, Ready=""), True, 0),
        (drawing.distribution(Ready=""), True, 0),
        (drawing.distribution(Stalled="no OllamaNode matches"), True, 1),
        # what is left out of the tasks may be ours, unless what is installed was left out first
        (drawing.distribution(GONE, omitted=3), False, 0),
        (drawing.distribution(GONE, HERE, omitted=3), True, 1),
    ],
)
def test_when_a_pull_has_ended(obj: dict[str, Any], ended: bool, problems: int) -> None:
    state = state_of(obj, MODEL)
    assert (state.ended, len(state.problems)) == (ended, problems)


def test_an_older_status_tells_nothing() -> None:
    obj = drawing.distribution(HERE, Ready="")
    obj["metadata"]["generation"] = 2
    assert not state_of(obj, MODEL).ended


def test_there_is_nothing_in_an_empty_fleet() -> None:
    assert target([], Fleet()) == {}
    with pytest.raises(NotPossible, match="OllamaNodes here are none"):
        target(["a"], Fleet())
