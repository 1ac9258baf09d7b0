import json
from collections.abc import Callable
from copy import deepcopy

import pytest
import yaml

from ollama_fleet.cli import matrix, views
from ollama_fleet.cli.fitting import verdicts
from ollama_fleet.cli.fleet import Fleet
from ollama_fleet.cli.looking import show_status
from ollama_fleet.cli.screen import Format
from ollama_fleet.cli.table import Table
from tests.unit.cli.drawing import drawn, offered, sample


def larger() -> Fleet:
    """As many servers as do not fit side by side."""
    fleet = sample()
    servers = fleet.ollamanodes[0]["status"]["servers"]
    for number in range(matrix.MATRIX):
        servers.append({**deepcopy(servers[1]), "name": f"more-{number}"})
    return fleet


def test_an_empty_fleet_says_what_to_do() -> None:
    said = drawn(lambda screen: show_status(screen, Fleet()))
    assert said.startswith("0 of 0 servers ready")
    assert "Make an OllamaNode" in said
    assert "ollama pull" in drawn(lambda screen: screen.table(matrix.models(Fleet())))


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_data_holds_bytes_and_all_there_is(
    form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(lambda screen: show_status(screen, sample()), form=form)
    said = capsys.readouterr().out
    data = json.loads(said) if form == "json" else yaml.safe_load(said)
    assert data["servers"] == {"ready": 2, "total": 3, "omitted": 0}
    assert data["memory"] == {"used": 14592 * 2**20, "total": 42 * 2**30}
    assert [row["server"] for row in data["pulls"]] == ["fleet-gpu-12g"]
    assert [row["what"] for row in data["attention"]] == [
        "OllamaNode spare", "server fleet-gpu-6g", "llama3.1:8b on fleet-gpu-6g",
    ]  # fmt: skip


def test_many_servers_are_counted_unless_all_are_asked_for() -> None:
    fleet = larger()
    counted = drawn(lambda screen: screen.table(matrix.models(fleet)))
    assert counted.splitlines()[:2] == [
        "MODEL        INSTALLED  IN MEMORY  PULLING  DRIFTED  FAILED  MISFIT",
        "gpt-oss:20b          7          7        0        0       0       0",
    ]
    every = drawn(lambda screen: screen.table(matrix.models(fleet, wide=True)), width=300)
    assert every.splitlines()[0].count("more-") == matrix.MATRIX


def test_what_is_wide_is_shown_when_asked_for() -> None:
    table = views.nodes(sample())
    assert "RTX 4090" not in drawn(lambda screen: screen.table(table), width=300)
    wide = drawn(lambda screen: screen.table(table), width=300, form="wide")
    assert "NVIDIA GeForce RTX 4090" in wide
    assert "no answer for 2m" in wide
    assert "180 GiB" in wide


@pytest.mark.parametrize(
    "view", [views.servers, views.nodes, matrix.models, views.pulls, views.attention]
)
def test_namespaces_are_told_where_there_are_several(view: Callable[[Fleet, bool], Table]) -> None:
    said = drawn(lambda screen: screen.table(view(sample(), True)), width=200)
    assert said.startswith("NAMESPACE")
    assert "llm" in said


def test_what_is_left_out_is_told() -> None:
    fleet = sample()
    fleet.ollamanodes[0]["status"]["serversOmitted"] = 20
    fleet.distributions[0]["status"]["tasksOmitted"] = 9
    assert "20 more servers" in drawn(lambda screen: screen.table(views.servers(fleet)))
    assert "9 more tasks" in drawn(lambda screen: screen.table(matrix.models(fleet)))


def test_a_cordoned_server_is_told_as_such() -> None:
    fleet = sample()
    fleet.ollamanodes[0]["spec"]["cordoned"] = True
    states = [row["state"] for row in views.servers(fleet).rows]
    assert states == ["Cordoned", "Cordoned", "Offline"]


def test_a_longer_context_fits_fewer_servers() -> None:
    model = offered("llama3.1:8b")
    short = [row["fits"] for row in verdicts(model, sample()).rows]
    long = [row["fits"] for row in verdicts(model, sample(), 131072).rows]
    assert short == [True, True, False]
    assert long == [False, True, False]


def test_a_full_disk_has_no_room_unless_the_model_is_there() -> None:
    fleet = sample()
    for server in fleet.ollamanodes[0]["status"]["servers"]:
        server["diskFree"] = "1Gi"
    rows = {row["server"]: row for row in verdicts(offered("gpt-oss:20b"), fleet).rows}
    assert rows["fleet-gpu-24g"]["fits"]
    rows = {row["server"]: row for row in verdicts(offered("llama3.1:8b"), fleet).rows}
    assert not rows["fleet-gpu-24g"]["fits"]
    assert "its disk has 1 GiB free" in rows["fleet-gpu-24g"]["why"]
