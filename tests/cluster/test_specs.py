"""What the API server takes of the three kinds, what it refuses, and with which words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from ollama_fleet.api import API_VERSION, GROUP, VERSION
from tests.cluster.conftest import Kubectl, operator_stopped
from tests.cluster.fleet import Api

CRDS = Path(__file__).parents[2] / "crds"
TABLE = yaml.safe_load(Path(__file__).with_name("specs.yaml").read_text())
MINIMAL = {"OllamaNode": {"replicas": 0}, "ModelDistribution": {"models": [{"name": "a"}]}}
PLURALS = {
    "OllamaNode": "ollamanodes",
    "ModelDistribution": "modeldistributions",
    "Router": "routers",
}


def rows(section: str) -> list[Any]:
    return [
        pytest.param(kind, row, id=f"{kind}: {why}")
        for kind, listed in TABLE[section].items()
        for why, row in listed.items()
    ]


class Kinds:
    """The three kinds at one API server; every call gives what the API server has against it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.objects = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))

    def create(
        self, kind: str, spec: Any, name: str = "sample", namespace: str = "default", **how: Any
    ) -> list[str]:
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        return self._complaints(
            self.objects.create_namespaced_custom_object,
            *(GROUP, VERSION, namespace, PLURALS[kind], body),
            **{"dry_run": "All", "field_validation": "Strict", **how},
        )

    def report(self, kind: str, status: Any, name: str, namespace: str) -> None:
        at = (GROUP, VERSION, namespace, PLURALS[kind], name)
        body = self.objects.get_namespaced_custom_object(*at) | {"status": status}
        self.objects.replace_namespaced_custom_object_status(*at, body)

    def update(self, kind: str, spec: Any, name: str, namespace: str) -> list[str]:
        at = (GROUP, VERSION, namespace, PLURALS[kind], name)
        body = self.objects.get_namespaced_custom_object(*at) | {"spec": spec}
        return self._complaints(
            self.objects.replace_namespaced_custom_object, *at, body, dry_run="All"
        )

    def scale(self, kind: str, replicas: int, name: str, namespace: str) -> list[str]:
        at = (GROUP, VERSION, namespace, PLURALS[kind], name)
        body = {"spec": {"replicas": replicas}}
        return self._complaints(
            self.objects.patch_namespaced_custom_object_scale, *at, body, dry_run="All"
        )

    @staticmethod
    def _complaints(call: Any, *arguments: Any, **how: Any) -> list[str]:
        try:
            call(*arguments, **how)
        except client.ApiException as error:
            answer = json.loads(error.body)
            causes = (answer.get("details") or {}).get("causes")
            if not causes:
                return [answer["message"]]
            # the others repeat these: that conversion failed, that some rules were not checked
            named = [cause for cause in causes if cause["field"].startswith(("spec", "metadata"))]
            return [f"{cause['field']}: {cause['message']}" for cause in named or causes]
        return []


def unlike(complaints: list[str], says: list[str]) -> list[str]:
    """What was said and not expected, or expected and not said."""

    def heard(complaint: str, expected: str) -> bool:
        field, _, words = expected.partition(": ")
        if not words:
            return complaint.endswith(expected)
        return complaint.startswith(f"{field}: ") and complaint.endswith(words)

    unexpected = [one for one in complaints if not any(heard(one, each) for each in says)]
    unsaid = [each for each in says if not any(heard(one, each) for one in complaints)]
    return [f"unexpected: {one}" for one in unexpected] + [f"not said: {one}" for one in unsaid]


@pytest.fixture(scope="module")
def kinds(kubeconfig: Path, kubectl: Kubectl, api: Api) -> Iterator[Kinds]:
    """The kinds as they are by themselves: an operator would answer with a status of its own."""
    with operator_stopped(kubectl, api):
        yield from _installed(kubeconfig, kubectl)


def _installed(kubeconfig: Path, kubectl: Kubectl) -> Iterator[Kinds]:
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))
    made = Kinds(kubeconfig)
    yield made
    made.objects.api_client.close()


@pytest.mark.parametrize(("kind", "spec"), rows("good"))
def test_takes(kinds: Kinds, kind: str, spec: Any) -> None:
    assert kinds.create(kind, spec) == []


@pytest.mark.parametrize(("kind", "row"), rows("bad"))
def test_refuses(kinds: Kinds, kind: str, row: dict[str, Any]) -> None:
    assert row["says"]
    assert unlike(kinds.create(kind, row["spec"]), row["says"]) == []


@pytest.mark.parametrize(("kind", "row"), rows("names"))
def test_names(kinds: Kinds, kind: str, row: dict[str, Any]) -> None:
    complaints = kinds.create(kind, MINIMAL.get(kind, {}), row["name"])
    assert unlike(complaints, row.get("says", [])) == []


def test_updates(kinds: Kinds, namespace: str) -> None:
    wrong = []
    for number, (kind, why, row) in enumerate(stored("updates")):
        name = f"update-{number}"
        assert kinds.create(kind, row["before"], name, namespace, dry_run=None) == [], why
        if "status" in row:
            kinds.report(kind, row["status"], name, namespace)
        complaints = kinds.update(kind, row["after"], name, namespace)
        wrong += [f"{kind}: {why}: {one}" for one in unlike(complaints, row.get("says", []))]
    assert wrong == []


def test_scales(kinds: Kinds, namespace: str) -> None:
    wrong = []
    for number, (kind, why, row) in enumerate(stored("scales")):
        name = f"scale-{number}"
        assert kinds.create(kind, row["spec"], name, namespace, dry_run=None) == [], why
        complaints = kinds.scale(kind, row["replicas"], name, namespace)
        wrong += [f"{kind}: {why}: {one}" for one in unlike(complaints, row.get("says", []))]
    assert wrong == []


def stored(section: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [(kind, why, row) for kind, of in TABLE[section].items() for why, row in of.items()]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"replicas": 2}, {}),
        # absent, it means all of them
        ({"retry": {"causes": ["502"]}}, {"retry": {"causes": []}}),
        ({"select": {"ollamaNodes": ["a"]}}, {"select": {"ollamaNodes": []}}),
    ],
)
def test_what_is_emptied_by_server_side_apply_is_empty(
    kubectl: Kubectl, kinds: Kinds, namespace: str, before: Any, after: Any
) -> None:
    for spec in (before, after):
        made = {"apiVersion": API_VERSION, "kind": "Router", "metadata": {"name": "sample"}}
        applying = ("apply", "--server-side", "-n", namespace, "-f", "-")
        kubectl(*applying, input=json.dumps({**made, "spec": spec}))
    found = kubectl("get", "router", "sample", "-n", namespace, "-o", "jsonpath={.spec}")
    assert json.loads(found) == {"replicas": 1, **after}


def test_a_target_emptied_by_server_side_apply_is_refused(
    kubectl: Kubectl, kinds: Kinds, namespace: str
) -> None:
    applying = ("apply", "--server-side", "-n", namespace, "-f", "-")
    made = {
        "apiVersion": API_VERSION,
        "kind": "ModelDistribution",
        "metadata": {"name": "sample"},
        "spec": {"models": [{"name": "a"}], "target": {"ollamaNodes": ["a"]}},
    }
    kubectl(*applying, input=json.dumps(made))
    made["spec"] = {"models": [{"name": "a"}], "target": {"ollamaNodes": []}}
    with pytest.raises(AssertionError, match="should have at least 1 items"):
        kubectl(*applying, input=json.dumps(made))


def test_prints(kinds: Kinds, namespace: str, kubectl: Kubectl, tmp_path: Path) -> None:
    """`kubectl get ollama` shows status in the columns people look for."""
    for kind, row in TABLE["prints"].items():
        assert kinds.create(kind, row["spec"], "sample", namespace, dry_run=None) == []
        at = (GROUP, VERSION, namespace, PLURALS[kind], "sample")
        body = kinds.objects.get_namespaced_custom_object(*at)
        body["status"] = row["status"] | {"conditions": [TABLE["ready"]]}
        kinds.objects.replace_namespaced_custom_object_status(*at, body)
    # kubectl remembers for minutes which kinds there were
    printed = kubectl("get", "ollama", "-n", namespace, "--cache-dir", str(tmp_path))
    tables = [
        [line.split() for line in table.splitlines()] for table in printed.strip().split("\n\n")
    ]
    shown = {row[0].partition(".")[0]: dict(zip(head, row, strict=True)) for head, row in tables}
    for kind, row in TABLE["prints"].items():
        found = shown[kind.lower()]
        assert list(found) == ["NAME", *row["shows"], "AGE"]
        assert {name: found[name] for name in row["shows"]} == row["shows"]


def test_scale_is_read_by_autoscalers(kinds: Kinds, namespace: str) -> None:
    assert kinds.create("OllamaNode", {"replicas": 2}, "sample", namespace, dry_run=None) == []
    at = (GROUP, VERSION, namespace, "ollamanodes", "sample")
    body = kinds.objects.get_namespaced_custom_object(*at)
    body["status"] = {"replicas": 1, "selector": "ollamafleet.dev/ollamanode=sample"}
    kinds.objects.replace_namespaced_custom_object_status(*at, body)
    scale = kinds.objects.get_namespaced_custom_object_scale(*at)
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 1, "selector": "ollamafleet.dev/ollamanode=sample"}


def test_every_rule_is_tried() -> None:
    """Each CEL rule of the CRDs refuses something in the table."""
    said = {
        complaint.partition(": ")[2]
        for section in ("bad", "names", "updates", "scales")
        for listed in TABLE[section].values()
        for row in listed.values()
        for complaint in row.get("says", [])
    }
    messages = {
        rule["message"]
        for path in CRDS.glob("*.yaml")
        for rule in rules_of(yaml.safe_load(path.read_text()))
    }
    assert len(messages) > 50
    assert messages - said == set()


def rules_of(node: Any) -> Iterator[dict[str, str]]:
    if isinstance(node, dict):
        yield from node.get("x-kubernetes-validations", ())
        for child in node.values():
            yield from rules_of(child)
    elif isinstance(node, list):
        for child in node:
            yield from rules_of(child)
