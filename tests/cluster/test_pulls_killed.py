"""Pulls of a fleet while its operator is killed again and again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE
from tests.cluster.fleet import LARGE, SMALL, Fleet, Registry, distribution, ollama_node, told
from tests.cluster.operating import operating
from tests.cluster.waiting import eventually

KILLS = 20
SERVERS = 3
RATE = 6e6


def begin(fleet: Fleet) -> None:
    """Two models for each of three servers, all at once."""
    fleet.apply(
        ollama_node(replicas=SERVERS),
        distribution("m", SMALL, LARGE, rollout={"maxParallel": "100%"}),
    )


def end(fleet: Fleet) -> tuple[object, ...]:
    """What has come of it, once all is Ready: per server what is installed, tasks and failures."""
    status = fleet.ready(MODEL_DISTRIBUTION, "m")["status"]
    fleet.ready(OLLAMA_NODE, "a")
    tasks = told(status["tasks"], "server", "model", "state", "digest", "attempts", "error")
    return [fleet.emulator(pod).installed() for pod in fleet.pods("a")], tasks, status["summary"]


def test_an_operator_killed_twenty_times_pulls_nothing_twice(
    fleet: Fleet, another: Fleet, alone: None, registry: Registry, tmp_path: Path
) -> None:
    before = registry.served()
    begin(another)
    with registry.pace(RATE), operating(another, tmp_path):
        wanted = end(another)
    undisturbed = registry.served() - before

    random = Random(7)
    before = registry.served()
    begin(fleet)
    for _ in range(KILLS):
        # somewhere in the next part of the whole, so that all of it sees operators come and go
        enough = registry.served() + random.uniform(0.2, 0.8) * undisturbed / KILLS
        with registry.pace(RATE), operating(fleet, tmp_path):
            eventually("it goes on", partial(_served, registry, enough), within=30)
    with operating(fleet, tmp_path):
        assert end(fleet) == wanted
    assert registry.served() - before <= 1.1 * undisturbed
    assert "Traceback" not in (tmp_path / "operator.log").read_text()


def _served(registry: Registry, enough: float) -> bool:
    return registry.served() >= enough
