"""What the chart gives to Prometheus and Grafana, and what manifests/ gives."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.chart import CHART, ChartError, plain, render
from dev.cluster import binary
from dev.generate import MONITORED, ROOT

Object = dict[str, Any]


def rendered(helm: Path, part: str, **values: Any) -> dict[str, list[Object]]:
    return render(helm, values={"metrics": {part: {"enabled": True, **values}}})


def plain_groups() -> list[Object]:
    return [
        group
        for path in sorted((CHART / "files" / "rules").glob("*.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]


def rules(helm: Path, **values: Any) -> list[Object]:
    (found,) = rendered(helm, "prometheusRule", **values)["prometheusrule.yaml"]
    assert found["kind"] == "PrometheusRule"
    groups: list[Object] = found["spec"]["groups"]
    return groups


def test_rules_and_dashboards_are_there_if_wanted(helm: Path) -> None:
    assert not {"prometheusrule.yaml", "dashboards.yaml", "servicemonitor.yaml"} & set(render(helm))


def test_the_rules_are_those_of_the_files(helm: Path) -> None:
    assert rules(helm) == plain_groups()


def test_alerts_link_to_where_the_runbooks_are_and_have_the_labels_wanted(helm: Path) -> None:
    groups = rules(helm, runbookUrl="https://wiki.lan/books/", alertLabels={"team": "ml"})
    for rule in (one for group in groups for one in group["rules"] if "alert" in one):
        url = f"https://wiki.lan/books/{rule['alert']}.md"
        assert rule["annotations"]["runbook_url"] == url
        assert rule["labels"]["team"] == "ml"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_an_alert_can_be_left_out(helm: Path) -> None:
    def names(groups: list[Object]) -> set[str]:
        return {rule.get("alert") or rule["record"] for one in groups for rule in one["rules"]}

    left = names(plain_groups()) - names(rules(helm, disabled=["OllamaFleetErrorsSlow"]))
    assert left == {"OllamaFleetErrorsSlow"}


def test_dashboards_are_found_by_the_sidecar(helm: Path) -> None:
    wanted = {
        "labels": {"dashboards": "yes"},
        "annotations": {"grafana_folder": "Ollama"},
        "namespace": "monitoring",
    }
    found = rendered(helm, "dashboards", **wanted)["dashboards.yaml"]
    files = {path.name: path.read_text() for path in (CHART / "files/dashboards").glob("*.json")}
    assert len(found) == len(files) == 2
    assert {text for one in found for text in one["data"].values()} == set(files.values())
    assert len({one["metadata"]["name"] for one in found}) == 2
    for one in found:
        assert one["metadata"]["namespace"] == "monitoring"
        assert one["metadata"]["annotations"] == {"grafana_folder": "Ollama"}
        assert one["metadata"]["labels"]["dashboards"] == "yes"
        (text,) = one["data"].values()
        assert len(text) < 2**20
        assert json.loads(text)["panels"]


def test_what_is_scraped_has_the_labels_that_rules_go_by(helm: Path) -> None:
    monitor, _ = rendered(helm, "serviceMonitor")["servicemonitor.yaml"]
    assert [one["honorLabels"] for one in monitor["spec"]["endpoints"]] == [True]
    (pods,) = rendered(helm, "podMonitor", labels={"release": "p"})["servicemonitor.yaml"]
    assert pods["kind"] == "PodMonitor"
    assert pods["metadata"]["labels"]["release"] == "p"
    assert pods["spec"]["namespaceSelector"] == {"any": True}
    (endpoint,) = pods["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    assert {
        "sourceLabels": ["__meta_kubernetes_pod_label_ollamafleet_dev_router"],
        "targetLabel": "router",
    } in endpoint["relabelings"]


def test_the_guides_values_are_taken(helm: Path) -> None:
    guide = (ROOT / "docs" / "guides" / "monitoring.md").read_text()
    (block,) = re.findall(r"^```yaml\n(# values.*?)^```", guide, re.DOTALL | re.MULTILINE)
    assert "prometheusrule.yaml" in render(helm, values=yaml.safe_load(block))


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"prometheusRule": {"disabled": ["ErrorsSlow"]}}, "/metrics/prometheusRule/disabled/0"),
        ({"prometheusRule": {"severity": "page"}}, "severity"),
        ({"dashboards": {"namespace": "Monitoring"}}, "/metrics/dashboards/namespace"),
        ({"podMonitor": {"interval": "often"}}, "/metrics/podMonitor/interval"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Path, metrics: Object, said: str) -> None:
    with pytest.raises(ChartError, match=said):
        render(helm, values={"metrics": metrics})


def test_kustomize_gives_what_helm_gives(
    helm: Path, say: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "manifests").symlink_to(ROOT / "manifests")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        "resources: [../manifests]\ncomponents: [../manifests/monitoring]\n"
    )
    command = [*binary.find(say).command("kubectl"), "kustomize", str(overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {identity(one): one for one in yaml.safe_load_all(done.stdout)}
    of_helm = [one for each in plain(helm, metrics=MONITORED).values() for one in each]
    assert all(found[identity(one)] == one for one in of_helm)
    assert {"PrometheusRule", "PodMonitor", "ServiceMonitor"} <= {kind for kind, _ in found}


def identity(found: Object) -> tuple[str, str]:
    return found["kind"], found["metadata"]["name"]
