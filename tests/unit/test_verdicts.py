"""What the long runs call bad: each verdict can be lost."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale.__main__ import SIZES
from benchmarks.scale.growth import GROWING, MOST, Row, more, report
from benchmarks.soak.__main__ import KILLED, LONG, Outcome
from benchmarks.soak.memory import PROGRAMS, Memory
from dev.cluster import Cluster
from tests.world import measure
from tests.world.ground import Digests


def rows(cost: Any, **figures: float) -> list[Row]:
    """The three sizes, with costs by the number of servers."""
    made = []
    for size in SIZES:
        row = Row(size.servers, size.nodes, size.distributions, size.routers)
        for name in GROWING:
            setattr(row, name, cost(size.servers))
        for name, value in figures.items():
            setattr(row, name, value)
        made.append(row)
    return made


@pytest.mark.parametrize(
    ("found", "held"),
    [
        (rows(lambda servers: 100 + 2 * servers), True),
        (rows(lambda servers: 100 * servers**0.5), True),
        (rows(lambda _: 7), True),
        (rows(lambda servers: servers**1.3), False),
        (rows(lambda servers: servers**2), False),
        (rows(lambda servers: 2 * servers, rest_writes=1), False),
    ],
    ids=["linear", "slower", "constant", "faster", "quadratic", "writes at rest"],
)
def test_what_grows_faster_than_the_fleet_is_too_much(
    found: list[Row],
    held: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("benchmarks.scale.growth.RESULT", tmp_path / "scale.json")
    assert report(found) is held
    assert f'"held": {str(held).lower()}' in (tmp_path / "scale.json").read_text()
    assert "CPU s" in capsys.readouterr().out


def test_one_cost_that_grows_is_told_by_name() -> None:
    found = rows(lambda servers: servers)
    for row in found:
        row.label_cpu = row.servers**2
    grown = {name for name, ratio in more(found).items() if ratio > MOST}
    assert grown == {"label_cpu"}


def memory(tmp_path: Path, *means: float) -> Memory:
    """What was seen of the operator, in each third of an hour."""
    seen = Memory(Cluster(tmp_path))
    for second in range(0, 3600, 60):
        seen.samples["operator"].append((float(second), means[second // 1200]))
    for program in PROGRAMS:
        seen.samples[program] = seen.samples[program] or [(at, 50.0) for at in (0.0, 1.0, 2.0)]
    return seen


@pytest.mark.parametrize(
    ("counts", "cuts", "means", "held"),
    [
        ({}, {}, (90, 100, 100), True),
        ({"cut off": 3}, {KILLED: 3}, (90, 100, 114), True),
        ({"lost": 1}, {}, (90, 100, 100), False),
        ({"wrong": 1}, {}, (90, 100, 100), False),
        ({"cut off": 1}, {"rollout": 1}, (90, 100, 100), False),
        ({}, {}, (90, 100, 116), False),
        ({"whole": -9}, {}, (90, 100, 100), False),
        ({"embedded": -9}, {}, (90, 100, 100), False),
    ],
)
def test_what_an_hour_must_not_show(
    counts: dict[str, int],
    cuts: dict[str, int],
    means: tuple[float, ...],
    held: bool,
    tmp_path: Path,
) -> None:
    asked = Counter({"asked": 9, "whole": 9, "embedded": 9})
    asked.update(counts)
    seen = memory(tmp_path, *means)
    outcome = Outcome(LONG, Counter({KILLED: 1}), asked, seen, Counter(cuts))
    assert outcome.held is held


@pytest.mark.parametrize(
    ("counted", "promised", "wrong"),
    [
        ({}, {}, []),
        ({"lost": 2}, {}, ["2 requests lost"]),
        ({"lost": 2}, {"may_lose": True}, []),
        ({"cut": 1}, {}, ["1 streams cut"]),
        ({"cut": 1}, {"may_cut": True}, []),
        ({"models_lost": ["m on a-0"]}, {"may_lose": True}, ["1 models lost"]),
        ({"twice": 3e6}, {}, ["3 MB pulled twice"]),
        ({"twice": 9e5}, {}, []),
        ({"writes": ["patch routers chat"]}, {}, ["1 writes at rest"]),
    ],
)
def test_what_a_fault_must_not_cost(
    counted: dict[str, Any], promised: dict[str, Any], wrong: list[str]
) -> None:
    fault = measure.Fault("any", lambda _: nullcontext(), **promised)
    outcome = measure.Outcome(fault, **counted)
    measure.judge(fault, outcome)
    assert outcome.wrong == wrong


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        ({"a": {"m": "1", "n": "2"}, "b": {"m": "1"}, "c": {}}, []),
        ({"a": {"m": "1"}, "b": {"m": "1"}}, ["n on a"]),
        ({"a": {"m": "1", "n": "3"}, "b": {"m": "1"}}, ["n on a"]),
        ({"a": {"m": "1", "n": "2"}}, ["m on b"]),
    ],
    ids=["none", "one", "another digest", "a server"],
)
def test_which_models_are_lost(after: Digests, lost: list[str]) -> None:
    before = {"a": {"m": "1", "n": "2"}, "b": {"m": "1"}}
    assert measure.lost(before, after) == lost
