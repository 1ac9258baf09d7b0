"""The chart, the manifests and the samples on a real API server."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from dev.chart import CHART
from dev.cluster import Cluster
from dev.generate import ROOT
from tests.cluster.waiting import eventually
from tests.component.chart.conftest import Kubectl, KubectlError, objects

Helm = Callable[..., str]
OPERATOR = "system:serviceaccount:ollama-fleet:ollama-fleet"
LLM = ("--namespace", "llm")


@pytest.fixture(scope="module")
def installed(cluster: Cluster, helm: Path, kubectl: Kubectl) -> Helm:
    """Runs helm against the cluster, where the chart is installed."""

    def run(*arguments: str) -> str:
        command = [str(helm), "--kubeconfig", str(cluster.kubeconfig), *arguments]
        environment = {**os.environ, "HELM_CACHE_HOME": str(cluster.directory / "helm")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    kubectl("create", "namespace", "llm")
    arguments = ("--namespace", "ollama-fleet", "--create-namespace")
    run("install", "ollama-fleet", str(CHART), *arguments)
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
    return run


def test_its_notes_can_be_pasted(installed: Helm, kubectl: Kubectl) -> None:
    notes = installed("get", "notes", "ollama-fleet", "--namespace", "ollama-fleet")
    pasted = re.search(r"^kubectl -n default apply -f - <<'END'\n(.*)^END$", notes, re.M | re.S)
    assert pasted
    answer = kubectl("apply", "--dry-run=server", "-f", "-", stdin=pasted[1])
    assert answer.count("created") == 3


def test_every_sample_is_accepted_as_it_is(installed: Helm, kubectl: Kubectl) -> None:
    kubectl(*LLM, "apply", "-f", str(ROOT / "manifests" / "samples"))
    assert {found["kind"] for found in objects(kubectl, *LLM, "ollama")} == {
        "OllamaNode",
        "ModelDistribution",
        "Router",
    }


def test_an_upgrade_of_itself_changes_nothing(installed: Helm, kubectl: Kubectl) -> None:
    def specifications() -> dict[str, object]:
        kinds = "deployments,services,clusterroles,clusterrolebindings,roles,crds"
        found = objects(kubectl, kinds, "-A", "-l", "app.kubernetes.io/instance=ollama-fleet")
        return {
            f"{each['kind']} {each['metadata']['name']}": each["metadata"].get("generation")
            or each.get("rules")
            for each in found
        }

    before = specifications()
    assert len(before) > 10
    installed("upgrade", "ollama-fleet", str(CHART), "--namespace", "ollama-fleet")
    assert specifications() == before


def test_a_restricted_namespace_takes_its_pods(installed: Helm, kubectl: Kubectl) -> None:
    kubectl(
        "label",
        "namespace",
        "ollama-fleet",
        "pod-security.kubernetes.io/enforce=restricted",
    )
    deployments = objects(kubectl, "--namespace", "ollama-fleet", "deployments")
    assert len(deployments) == 2
    for deployment in deployments:
        template = deployment["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trial"}, **template}
        pod["metadata"] = {"name": "trial", "namespace": "ollama-fleet"}
        stdin = json.dumps(pod)
        assert "created" in kubectl("create", "--dry-run=server", "-f", "-", stdin=stdin)


def test_the_operator_hands_out_the_routers_role_and_no_stronger(
    installed: Helm, kubectl: Kubectl
) -> None:
    def bind(role: str) -> str:
        binding = ("create", "rolebinding", role, f"--clusterrole={role}")
        return kubectl(*LLM, *binding, "--serviceaccount=llm:chat", f"--as={OPERATOR}")

    assert "created" in bind("ollama-fleet-router")
    for role in ("cluster-admin", "admin", "edit"):
        with pytest.raises(KubectlError, match="forbidden"):
            bind(role)


def test_the_operator_writes_no_role_stronger_than_itself(
    installed: Helm, kubectl: Kubectl
) -> None:
    def write(name: str, verb: str, resource: str) -> str:
        role = ("create", "role", name, f"--verb={verb}", f"--resource={resource}")
        return kubectl(*LLM, *role, f"--as={OPERATOR}")

    assert "created" in write("reads", "get", "secrets")
    for name, verb, resource in (
        ("lists", "list", "secrets"),
        ("runs", "create", "pods"),
        ("all", "*", "*"),
    ):
        with pytest.raises(KubectlError, match="forbidden"):
            write(name, verb, resource)


def test_the_operator_may_block_the_deletion_of_its_resources(
    installed: Helm, kubectl: Kubectl
) -> None:
    kubectl(*LLM, "create", "rolebinding", "edits", "--clusterrole=edit", "--user=eve")
    for kind in ("Router", "OllamaNode"):
        owner = {"apiVersion": "ollamafleet.dev/v1alpha1", "kind": kind, "name": "a", "uid": "1"}
        meta = {"name": "owned", "ownerReferences": [{**owner, "blockOwnerDeletion": True}]}
        made = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        apply = (*LLM, "apply", "--server-side", "--dry-run=server", "-f", "-")
        said = eventually(
            "the API server knows the kind", partial(_once_known, kubectl, apply, OPERATOR, made)
        )
        assert "applied" in said
        with pytest.raises(KubectlError, match="cannot set blockOwnerDeletion"):
            kubectl(*apply, "--as=eve", stdin=made)


def _once_known(kubectl: Kubectl, apply: Sequence[str], user: str, made: str) -> str:
    """What kubectl says; empty while the API server has yet to look at kinds that are new."""
    try:
        return kubectl(*apply, f"--as={user}", stdin=made)
    except KubectlError as error:
        if "cannot find RESTMapping" not in str(error):
            raise
        return ""


@pytest.mark.parametrize(
    ("verb", "resource", "granted"),
    [
        ("list", "nodes", True),
        ("patch", "ollamanodes.ollamafleet.dev --subresource=status", True),
        ("patch", "ollamanodes.ollamafleet.dev", False),
        ("create", "events.events.k8s.io", True),
        ("get", "secrets", True),
        ("list", "secrets", False),
        ("watch", "secrets", False),
        ("create", "roles.rbac.authorization.k8s.io", True),
        ("escalate", "roles.rbac.authorization.k8s.io", False),
        ("delete", "roles.rbac.authorization.k8s.io", False),
        ("delete", "statefulsets.apps", False),
        ("create", "pods", False),
        ("list", "resourceslices.resource.k8s.io", True),
        ("list", "storageclasses.storage.k8s.io", True),
        ("patch", "persistentvolumeclaims", True),
        ("delete", "persistentvolumeclaims", False),
        ("watch", "resourceclaims.resource.k8s.io", True),
        ("patch", "resourceclaims.resource.k8s.io", False),
        ("delete", "resourceclaims.resource.k8s.io", False),
        ("delete", "resourceclaimtemplates.resource.k8s.io", True),
        ("patch", "clusterroles.rbac.authorization.k8s.io", False),
        ("update", "leases.coordination.k8s.io -n ollama-fleet", True),
        ("update", "leases.coordination.k8s.io -n llm", False),
    ],
)
def test_what_the_operator_may_do(
    installed: Helm, kubectl: Kubectl, verb: str, resource: str, granted: bool
) -> None:
    question = ("auth", "can-i", verb, *resource.split(), f"--as={OPERATOR}")
    scope = () if "-n" in question else ("-A",)
    try:
        answer = kubectl(*question, *scope)
    except KubectlError:  # "no" is exit code 1
        answer = "no"
    assert answer.strip() == ("yes" if granted else "no")


def test_people_who_may_view_see_fleets(installed: Helm, kubectl: Kubectl) -> None:
    kubectl(*LLM, "create", "rolebinding", "sees", "--clusterrole=view", "--user=ann")
    assert "NAME" in kubectl(*LLM, "get", "ollama", "--as=ann")
    with pytest.raises(KubectlError, match="forbidden"):
        kubectl(*LLM, "delete", "routers", "--all", "--as=ann")


def test_fleets_outlive_the_chart(installed: Helm, kubectl: Kubectl) -> None:
    kubectl(*LLM, "apply", "-f", str(ROOT / "manifests" / "samples" / "demo.yaml"))
    installed("uninstall", "ollama-fleet", "--namespace", "ollama-fleet")
    assert "chat" in kubectl(*LLM, "get", "routers")
    with pytest.raises(KubectlError, match="not found"):
        kubectl("get", "clusterrole", "ollama-fleet-operator")
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests"))
    assert "ollama-fleet" in kubectl("--namespace", "ollama-fleet", "get", "deployments")
