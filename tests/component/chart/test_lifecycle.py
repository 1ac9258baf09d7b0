"""The chart's whole life on a cluster with machines: install, test, upgrade, uninstall."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dev import fleet
from dev.chart import CHART, run
from dev.cluster import Cluster
from dev.generate import ROOT
from dev.machines.machine import Machine
from tests.cluster.waiting import eventually
from tests.component.chart.conftest import Kubectl, kubectl_of

Object = dict[str, Any]
Helm = Callable[..., str]

RELEASE = ("ollama-fleet", "--namespace", "ollama-fleet")
TEST = {
    "model": "llama3.2:1b",
    "router": {"service": {"type": "LoadBalancer"}},  # names of Services lead nowhere here
}
PREVIOUS = Path(__file__).with_name("ollama-fleet-0.1.0.tgz")
"""The chart of the version before, as `helm package` made it."""
DEFINITIONS = {
    f"CustomResourceDefinition  {plural}.ollamafleet.dev"
    for plural in ("modeldistributions", "ollamanodes", "routers")
}

FLEET = """
apiVersion: ollamafleet.dev/v1alpha1
kind: OllamaNode
metadata: {name: box, namespace: default}
spec: {replicas: 1, gpu: {vendor: none}, storage: {ephemeral: true}}
---
apiVersion: ollamafleet.dev/v1alpha1
kind: Router
metadata: {name: box, namespace: default}
spec: {replicas: 1}
"""
KINDS = "ollamanodes,modeldistributions,routers"
BOX = ("pods", "-n", "default", "-l", "ollamafleet.dev/ollamanode=box")


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], None]
) -> Iterator[Cluster]:
    """A cluster with one machine, and a registry to pull from."""
    directory = tmp_path_factory.mktemp("cluster")
    machines = (Machine("m", vendor="none"),)
    started = Cluster.start(directory, machines, models=fleet.prepare(directory), say=say)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Kubectl:
    return kubectl_of(cluster)


@pytest.fixture
def clean(kubectl: Kubectl) -> None:
    """No definition is left of a test before."""
    kubectl("delete", "crd", "--all", "--timeout=60s")


@pytest.fixture(scope="module")
def at(helm: Path, cluster: Cluster) -> Helm:
    """helm at the cluster; ChartError with what it says where it fails."""

    def at(*arguments: str, values: Object | None = None) -> str:
        where = ("--kubeconfig", str(cluster.kubeconfig), "--timeout=2m")
        given = () if values is None else ("--values", "-")
        return run(helm, *arguments, *where, *given, stdin=json.dumps(values or {}))

    return at


def test_it_is_installed_tested_upgraded_and_gone(clean: None, at: Helm, kubectl: Kubectl) -> None:
    before = everything(kubectl)
    at("install", *RELEASE, "--create-namespace", "--wait", str(CHART), values={"test": TEST})
    told = at("test", *RELEASE, "--logs")
    assert "Phase:          Succeeded" in told
    assert "llama3.2:1b answers: " in told
    assert not names(kubectl, KINDS, "-A")
    wanted = {"replicas": 2, "commonLabels": {"team": "ml"}, "commonAnnotations": {"owner": "me"}}
    at("upgrade", *RELEASE, "--wait", "--reset-then-reuse-values", str(CHART), values=wanted)
    kubectl("apply", "-f", "-", stdin=FLEET)
    kubectl("wait", "--for=condition=Ready", "ollamanode/box", "router/box", "--timeout=100s")
    installed = everything(kubectl)
    assert "PodDisruptionBudget ollama-fleet ollama-fleet" in installed
    assert "Lease ollama-fleet ollama-fleet-operator" in installed
    (server,) = names(kubectl, *BOX)
    at("uninstall", *RELEASE, "--wait")
    # the definitions stay, and with them the fleet, at work, which nothing holds
    vanish(lambda: of(kubectl, "ollama-fleet"))
    left = {one for one in everything(kubectl) - before if " ollama-fleet" not in one}
    assert left >= DEFINITIONS
    assert {one for one in left if " default " not in one} == DEFINITIONS
    assert names(kubectl, *BOX) == [server]
    assert "finalizers" not in kubectl("get", KINDS, "-n", "default", "-o", "yaml")
    kubectl("delete", KINDS, "--all", "-n", "default", "--timeout=60s")


def test_an_upgrade_keeps_fleets_and_the_last_one_out_removes_them(
    clean: None, at: Helm, kubectl: Kubectl
) -> None:
    before = everything(kubectl)
    at("install", *RELEASE, "--create-namespace", "--wait", str(PREVIOUS))
    kubectl("apply", "-f", "-", stdin=FLEET)
    kubectl("wait", "--for=condition=Ready", "ollamanode/box", "--timeout=60s")
    server = kubectl("get", *BOX, "-o", "jsonpath={.items[*].metadata.uid}")
    at("upgrade", *RELEASE, "--wait", str(CHART), values={"crds": {"keep": False}})
    kubectl("wait", "--for=condition=Ready", "ollamanode/box", "router/box", "--timeout=100s")
    assert kubectl("get", *BOX, "-o", "jsonpath={.items[*].metadata.uid}") == server
    at("uninstall", *RELEASE, "--wait")
    # the version before made a Lease that has no owner
    vanish(lambda: new(kubectl, before) - {"Lease ollama-fleet ollama-fleet-operator"})


def test_without_any_right_to_the_cluster(clean: None, at: Helm, kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    before = everything(kubectl)
    release = ("fleets", "--namespace", "team")
    values = {"rbac": {"scope": "Namespaced"}, "crds": {"enabled": False}, "test": TEST}
    at("install", *release, "--create-namespace", "--wait", str(CHART), values=values)
    assert {one for one in everything(kubectl) - before if " team" not in one} == set()
    assert "llama3.2:1b answers: " in at("test", *release, "--logs")
    at("uninstall", *release, "--wait")
    vanish(lambda: of(kubectl, "team"))


def new(kubectl: Kubectl, before: set[str]) -> set[str]:
    """What there is besides, but for the release's namespace, which helm leaves."""
    return {one for one in everything(kubectl) - before if " ollama-fleet" not in one} | of(
        kubectl, "ollama-fleet"
    )


def of(kubectl: Kubectl, namespace: str) -> set[str]:
    """What is in a namespace, but for what Kubernetes puts into each."""
    own = {f"ConfigMap {namespace} kube-root-ca.crt", f"ServiceAccount {namespace} default"}
    return {one for one in everything(kubectl) if one.split(" ")[1] == namespace} - own


def vanish(look: Callable[[], set[str]]) -> None:
    """Wait until there is nothing."""
    with suppress(AssertionError):
        eventually("nothing is left", lambda: not look(), within=30)
    assert look() == set()


def names(kubectl: Kubectl, *what: str) -> list[str]:
    return kubectl("get", *what, "-o", "name").split()


def everything(kubectl: Kubectl) -> set[str]:
    """Every object of the cluster, as kind, namespace and name; events, what machines say of
    themselves and what Kubernetes notes of its own programs left out."""
    kinds = kubectl("api-resources", "--verbs=list", "--cached=false", "-o", "name").split()
    told = (
        "events",
        "componentstatuses",
        "nodes",
        "csinodes",
        "ipaddresses",
        "controllerrevisions",
        "apiservices",
    )
    asked = ",".join(
        kind
        for kind in kinds
        if kind.partition(".")[0] not in told and "metrics.k8s.io" not in kind
    )
    field = "{.kind} {.metadata.namespace} {.metadata.name}"
    found = kubectl(
        "get", asked, "-A", "-o", f"jsonpath={{range .items[*]}}{field}{{'\\n'}}{{end}}"
    )
    own = (" kube-", " apf-")
    return {line for line in found.splitlines() if line and not any(one in line for one in own)}
