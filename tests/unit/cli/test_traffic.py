import json

import pytest
import yaml

from ollama_fleet.cli import traffic
from ollama_fleet.cli.fleet import Fleet
from ollama_fleet.cli.looking import show_status
from ollama_fleet.cli.scraping import Look, Traffic
from ollama_fleet.cli.screen import Format
from ollama_fleet.cli.top import show_top
from tests.unit.cli.drawing import drawn, sample
from tests.unit.cli.traffic import PLACE, passing, scrape, unseen

WHY = "No figures of traffic: you may not ask the routers' pods."


def test_the_first_lines_tell_what_passes() -> None:
    said = drawn(lambda screen: show_status(screen, sample(), seen=passing()))
    assert said.splitlines()[1] == "12 requests/s, first token p50 0.19 s, p99 2.4 s, 2 queued"


def test_what_cannot_be_seen_is_one_line_and_no_more() -> None:
    told = drawn(lambda screen: show_status(screen, sample(), seen=unseen(WHY)), width=300)
    assert [line for line in told.splitlines() if line not in drawn_without()] == [WHY]


def drawn_without() -> list[str]:
    return drawn(lambda screen: show_status(screen, sample()), width=300).splitlines()


def test_without_routers_nothing_is_said_of_traffic() -> None:
    fleet = Fleet(sample().ollamanodes)
    assert WHY not in drawn(lambda screen: show_status(screen, fleet, seen=unseen(WHY)))


def test_idle_routers_have_no_first_token() -> None:
    look = {PLACE: {"chat-a": scrape(100, 10, 4000)}}
    idle = Traffic(Look(0.0, look), Look(1.0, look))
    figures = idle.figures()
    assert figures
    assert traffic.sentence(figures) == "0 requests/s, 1 queued"
    (row,) = drawn(lambda screen: screen.table(traffic.routers(sample(), idle))).splitlines()[1:]
    assert row.split() == ["chat", "0", "0", "-", "1", "1"]


def test_what_was_seen_once_has_no_rates() -> None:
    look = Look(0.0, {PLACE: {"chat-a": scrape(100, 10, 4000)}})
    once = Traffic(look, look)
    (row,) = drawn(lambda screen: screen.table(traffic.routers(sample(), once))).splitlines()[1:]
    assert row.split() == ["chat", "-", "-", "-", "1", "1"]


def test_a_router_of_another_namespace_has_no_part_in_it() -> None:
    assert passing().figures("other") is None
    seen = passing().figures("llm", "chat")
    assert seen
    assert seen.requests_per_second == 12


def test_the_busiest_server_comes_first() -> None:
    rows = traffic.servers(sample(), passing()).rows
    assert [(row["server"], row["inFlight"], row["breaker"]) for row in rows] == [
        ("fleet-gpu-24g", 2, "closed"),
        ("fleet-gpu-12g", 0, "closed"),
        ("fleet-gpu-6g", 0, "open"),
    ]


def test_models_that_nobody_asks_are_left_out() -> None:
    assert traffic.models(passing()).rows == [{"model": "gpt-oss:20b", "inFlight": 2, "queued": 2}]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_data_has_the_figures(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    read = json.loads if form == "json" else yaml.safe_load
    drawn(lambda screen: show_top(screen, sample(), passing()), form=form)
    data = read(capsys.readouterr().out)
    assert data["routers"][0]["tokensPerSecond"] == 480
    assert data["problem"] is None
    drawn(lambda screen: show_status(screen, sample(), seen=passing()), form=form)
    data = read(capsys.readouterr().out)
    assert data["traffic"]["firstTokenP50Seconds"] == pytest.approx(0.1875, abs=1e-3)


def test_figures_that_are_not_seen_are_told_as_such() -> None:
    said = drawn(lambda screen: show_top(screen, sample(), unseen(WHY)))
    assert WHY in said
    assert "MODEL" not in said
