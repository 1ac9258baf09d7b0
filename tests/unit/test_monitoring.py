"""Alerts, runbooks and dashboards: complete, and made of metrics that there are."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.api.crd import RESOURCES
from tests.unit.api.test_crds import schemas

ROOT = Path(__file__).parents[2]
FILES = ROOT / "charts" / "ollama-fleet" / "files"
RUNBOOKS = ROOT / "docs" / "runbooks"
GROUPS = ["fleet", "server", "model", "pull", "router", "capacity"]
RULES: list[dict[str, Any]] = [
    rule
    for path in sorted((FILES / "rules").glob("*.yaml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
DASHBOARDS = {
    path.name: json.loads(path.read_text()) for path in (FILES / "dashboards").glob("*.json")
}
DCGM = {
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_XID_ERRORS",
}
"""Of those that NVIDIA's exporter serves as it comes."""

by_dashboard = pytest.mark.parametrize("name", sorted(DASHBOARDS))


def documented() -> set[str]:
    """Every name of docs/reference/metrics.md, as Prometheus has it."""
    page = (ROOT / "docs/reference/metrics.md").read_text()
    found = set()
    for name, kind in re.findall(r"^\| `(\w+)` +\| (\w+) ", page, re.MULTILINE):
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + part for part in parts}
    return found


def metrics(query: str) -> set[str]:
    """The names in a query: what is followed by no parenthesis and is no label or word of it."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    bare = re.sub(r"\b(by|on|without|group_left|group_right|ignoring)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    words = {"and", "or", "unless"}
    return set(re.findall(r"(?<![\w$.])[A-Za-z_:][\w:]*\b(?!\s*\()", bare)) - words


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield target["expr"]


def test_there_is_a_file_of_alerts_for_each_subject() -> None:
    assert {path.stem for path in (FILES / "rules").glob("*.yaml")} == {*GROUPS, "slo"}


def test_each_alert_has_a_runbook_and_the_other_way_round() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)
    listed = re.findall(r"\]\((\w+)\.md\) \| (\w+)", (RUNBOOKS / "README.md").read_text())
    severities = {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}
    assert dict(listed) == severities


def test_each_alert_has_a_test_that_fires_and_clears_it_and_the_other_way_round() -> None:
    fired, cleared = Counter[str](), Counter[str]()
    for path in (ROOT / "tests/component/monitoring/alerts").glob("*.yaml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test.get("alert_rule_test", ()):
                (fired if case["exp_alerts"] else cleared)[case["alertname"]] += 1
    assert set(fired) == set(cleared) == set(ALERTS)


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_what_it_is_about(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    headings = re.findall(r"^## (.+)$", (RUNBOOKS / f"{name}.md").read_text(), re.MULTILINE)
    assert headings == [
        "What it means",
        "What users see",
        "How to find the cause",
        "How to mend it",
    ]


def test_the_links_of_runbooks_lead_somewhere() -> None:
    for path in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_each_reason_to_wait_for_somebody_is_in_one_alert() -> None:
    table = (ROOT / "docs/reference/reasons.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*)\|", table, re.MULTILINE)
    reasons = {reason for reason, condition in rows if "Stalled" in condition}
    assert len(reasons) > 30
    told = [
        reason
        for rule in ALERTS.values()
        for group in re.findall(r'ollama_fleet_stalled\{reason=~"([^"]*)"', rule["expr"])
        for reason in group.split("|")
    ]
    # a model that is wedged is told by the routers, wherever its server is
    assert sorted(told) == sorted(reasons - {"Wedged"})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_is_made_of_metrics_that_there_are(rule: dict[str, Any]) -> None:
    found = metrics(rule["expr"])
    assert found
    assert found <= documented() | RECORDED | DCGM


@by_dashboard
def test_a_panel_is_made_of_metrics_that_there_are(name: str) -> None:
    for query in queries(DASHBOARDS[name]):
        assert metrics(query) <= documented() | RECORDED | DCGM | {"ALERTS"}, query


@by_dashboard
def test_a_dashboard_is_one_that_grafana_reads(name: str) -> None:
    dashboard = DASHBOARDS[name]
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels(dashboard):
        told = panel["title"]
        assert panel["description"], told
        assert panel["fieldConfig"]["defaults"]["unit"], told
        assert panel["datasource"]["uid"] == "${datasource}", told
        assert panel["targets"], told
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(one["datasource"]["uid"] == "${datasource}" for one in panel["targets"]), told
    titles = [panel["title"] for panel in panels(dashboard) if panel["type"] != "stat"]
    assert len(set(titles)) == len(titles)


@by_dashboard
def test_panels_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


@by_dashboard
def test_every_variable_is_used_and_there_is_none_besides(name: str) -> None:
    dashboard = DASHBOARDS[name]
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    definitions = [one.get("definition", "") for one in variables.values()]
    text = " ".join([*queries(dashboard), *definitions])
    used = set(re.findall(r"\$(\w+)", text)) - {"__rate_interval"}
    assert used == set(variables) - {"datasource"}


def test_dashboards_have_addresses_of_their_own() -> None:
    assert len({one["uid"] for one in DASHBOARDS.values()}) == len(DASHBOARDS) == 2


def test_the_panels_of_gpus_are_there() -> None:
    found = set().union(*map(metrics, queries(DASHBOARDS["fleet.json"])))
    assert found >= DCGM


def test_the_fields_that_runbooks_name_are_there() -> None:
    fields = {
        path.removeprefix(".").replace("[]", "")
        for resource in RESOURCES
        for path in schemas(resource)
    }
    values = yaml.safe_load((FILES.parent / "values.yaml").read_text())
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text()
        for named in re.findall(r"(?<!selector )\bspec(?:\.[a-zA-Z]+)+", text):
            parent = named.rpartition(".")[0]
            assert {named, f"{parent}{{}}"} & fields, f"{page.name}: {named}"
        for named in re.findall(r"`((?:mirror|metrics)(?:\.[a-zA-Z]+)+)", text):
            found = values
            for key in named.split("."):
                assert key in found, f"{page.name}: {named}"
                found = found[key]
        for picked in re.findall(r"\{([\w, ]+)\}'", text):
            for named in picked.split(", "):
                assert any(path.endswith((f"servers.{named}", f"tasks.{named}")) for path in fields)


def test_the_guide_tells_what_is_recorded() -> None:
    guide = (ROOT / "docs/guides/monitoring.md").read_text()
    told = set(re.findall(r"`(namespace_router:[\w:]+)`", guide))
    assert told <= RECORDED
    windows = re.compile(r"(30m|1h|6h)$")
    assert {windows.sub("5m", name) for name in RECORDED} == told
