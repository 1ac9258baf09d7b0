"""A real Kubernetes for the tests of the whole: one cluster a session, one namespace a test."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from dev.chart import find_helm
from dev.cluster import Cluster
from dev.fleet import install
from ollama_fleet.kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    OLLAMA_NODE,
    POD,
    ROUTER,
    SERVICE_ACCOUNT,
    Kind,
)
from tests.cluster.fleet import OPERATOR, Api, Fleet, Registry
from tests.cluster.grants import Ledger
from tests.cluster.waiting import eventually

_NUMBERS = itertools.count(1)
_HERE = Path(__file__).parent
_LEFT_OUT = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at all that the others have done comes after them."""
    items.sort(key=lambda item: item.path == _HERE / "test_grants.py")


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Some of the tests collected are not run."""
    for item in items[:1]:
        item.config.stash[_LEFT_OUT] = True


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> None:
    """All cluster tests ran before and passed; skips where not."""
    session = request.session
    files = {item.path for item in session.items}
    some = any("::" in argument for argument in session.config.args)
    if (
        some
        or session.config.stash.get(_LEFT_OUT, False)
        or not files.issuperset(_HERE.glob("test_*.py"))
    ):
        pytest.skip("only part of tests/cluster ran: what is used shows in the whole alone")
    if session.testsfailed:
        pytest.skip("tests failed before this one: what they use may not have been used")


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    """What the clusters of this session were asked for: who stops one of its own reads its log."""
    return Ledger()


class Kubectl(Protocol):
    """Runs kubectl as the administrator and returns what it prints; AssertionError if it fails."""

    def __call__(self, *arguments: str, input: str | None = None) -> str: ...  # noqa: A002


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Cluster]:
    """A started cluster with the machines gpu-24g, gpu-12g and gpu-6g, and a registry of models
    that gives 30 MB/s; crashes back off 1 s."""
    # Making the control plane takes minutes the first time: say so past pytest's capture.
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    say = terminal.write_line if terminal else print
    started = Cluster.start(
        tmp_path_factory.mktemp("cluster"), models="real:30M", backoff=1.0, say=say
    )
    yield started
    started.stop()


@pytest.fixture(scope="session")
def kubeconfig(cluster: Cluster) -> Path:
    """The administrator's kubeconfig."""
    return cluster.kubeconfig


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    """kubectl of the cluster's version, as the administrator."""
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}

    def run(*arguments: str, input: str | None = None) -> str:  # noqa: A002
        done = subprocess.run(
            [str(cluster.kubectl), *arguments],
            input=input,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    return run


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the test's own, gone with all its pods afterwards."""
    name = f"test-{next(_NUMBERS)}"
    kubectl("create", "namespace", name)
    account = ("get", "serviceaccount", "-n", name, "-o", "name")
    eventually(f"{name} has its service account", lambda: "default" in kubectl(*account))
    yield name
    # Nothing can be created there any more, so what is deleted now stays so; the namespace itself
    # takes Kubernetes another five seconds, which nobody has to wait for.
    kubectl("delete", "namespace", name, "--wait=false")
    kubectl("delete", "all", "--all", "-n", name, "--timeout=60s")


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[Api]:
    """The API server."""
    with Api(cluster) as api:
        yield api


@pytest.fixture(scope="session")
def registry(cluster: Cluster) -> Registry:
    """Where the fleet's models come from."""
    return Registry(cluster)


@pytest.fixture(scope="session")
def operator(cluster: Cluster, kubectl: Kubectl, api: Api) -> None:
    """The operator, installed by the chart with helm as a user would."""
    install(cluster, find_helm(print))
    # The API server learns of new kinds within half a minute, perhaps of one before the next, and
    # lets nobody but an administrator make what they own until then.
    for kind in (OLLAMA_NODE, ROUTER):
        eventually(f"the operator may own by {kind}s", partial(owns, api, kind), within=60)


def owns(api: Api, kind: Kind) -> bool:
    """Whether the operator may make what objects of this kind own; nothing is made."""
    owner = {"apiVersion": kind.api_version, "kind": kind.kind, "name": "a", "uid": "a"}
    metadata = {"name": "owned", "ownerReferences": [{**owner, "blockOwnerDeletion": True}]}
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    path = f"{CONFIG_MAP.path('default')}?dryRun=All"
    operator = {"Impersonate-User": f"system:serviceaccount:{OPERATOR}:{OPERATOR}"}
    return bool(api.http.post(path, json=owned, headers=operator).is_success)


@contextmanager
def operator_stopped(kubectl: Kubectl, api: Api) -> Iterator[None]:
    """No operator runs meanwhile, be it installed or not."""
    if api.get(DEPLOYMENT, OPERATOR, OPERATOR) is None:
        yield
        return
    scale = ("scale", f"deployment/{OPERATOR}", "-n", OPERATOR)
    kubectl(*scale, "--replicas=0")
    pods = "app.kubernetes.io/component=operator"
    eventually("the operator has gone", lambda: not api.all(POD, OPERATOR, pods))
    yield
    kubectl(*scale, "--replicas=1")
    kubectl("rollout", "status", f"deployment/{OPERATOR}", "-n", OPERATOR, "--timeout=60s")


@pytest.fixture
def fleet(cluster: Cluster, api: Api, operator: None) -> Iterator[Fleet]:
    """A namespace with an operator that serves it. Whoever is denied anything fails the test."""
    name = f"fleet-{next(_NUMBERS)}"
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    api.call("POST", "/api/v1/namespaces", made)
    eventually(
        f"{name} has its service account",
        lambda: api.get(SERVICE_ACCOUNT, "default", name),
    )
    here = Fleet(cluster, api, name)
    yield here
    denied = here.denied()
    here.end()
    assert not denied


@pytest.fixture
def alone(fleet: Fleet, kubectl: Kubectl, api: Api) -> Iterator[None]:
    """No operator runs but the test's own."""
    with operator_stopped(kubectl, api):
        yield


@pytest.fixture
def another(cluster: Cluster, api: Api, fleet: Fleet) -> Iterator[Fleet]:
    """A second namespace."""
    name = f"{fleet.namespace}-undisturbed"
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    api.call("POST", "/api/v1/namespaces", made)
    eventually(f"{name} takes pods", lambda: api.get(SERVICE_ACCOUNT, "default", name))
    here = Fleet(cluster, api, name)
    yield here
    here.end()
