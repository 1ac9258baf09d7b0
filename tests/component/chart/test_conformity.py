"""What the check of chart and manifests finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.chart import CHART
from dev.conformity import NEWEST, OLDEST, complaints, find_kubeconform, refused

Object = dict[str, Any]

ROUTER = {"apiVersion": "ollamafleet.dev/v1alpha1", "kind": "Router", "metadata": {"name": "a"}}
BUDGET = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a"}}


@pytest.fixture(scope="module")
def kubeconform(say: Callable[[str], None]) -> Path:
    return find_kubeconform(say)


def test_nothing_is_wrong(helm: Path, kubeconform: Path) -> None:
    assert complaints(helm, kubeconform) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({**ROUTER, "spec": {"replica": 1}}, "additional properties 'replica' not allowed"),
        ({**ROUTER, "spec": {"queue": {"size": "many"}}}, "'/spec/queue/size'"),
        ({**BUDGET, "spec": {"minAvailible": 1}}, "additional properties 'minAvailible'"),
        ({**BUDGET, "apiVersion": "policy/v1beta1"}, "could not find schema"),
    ],
)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_what_is_wrong_is_said(kubeconform: Path, version: str, wrong: Object, said: str) -> None:
    (complaint,) = refused(kubeconform, version, {"here": [wrong]})
    assert complaint.startswith(f"here: {wrong['kind']} a: ")
    assert said in complaint


def test_what_it_is_checked_for_is_what_the_chart_says() -> None:
    declared = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert declared == f">={OLDEST}-0"
    page = (CHART.parents[1] / "docs/reference/compatibility.md").read_text()
    oldest, newest = (version.rpartition(".")[0] for version in (OLDEST, NEWEST))
    assert f"{oldest} to {newest}" in page
