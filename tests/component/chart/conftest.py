"""A helm, and an API server with RBAC in force."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.chart import find_helm
from dev.cluster import Cluster

Kubectl = Callable[..., str]


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Shows a line at once: what is made on first use takes minutes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", end="", flush=True)

    return line


@pytest.fixture(scope="session")
def helm(say: Callable[[str], None]) -> Path:
    return find_helm(say)


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], None]
) -> Iterator[Cluster]:
    """A control plane without machines: what is applied stays as it was applied."""
    running = Cluster.start(tmp_path_factory.mktemp("cluster"), (), say=say)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    return kubectl_of(cluster)


def kubectl_of(cluster: Cluster) -> Kubectl:
    """Gives kubectl's output; a failure raises with what it says."""

    def run(*arguments: str, stdin: str | None = None) -> str:
        command = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), *arguments]
        # of its own, as kubectl remembers for minutes which kinds an address has
        environment = {**os.environ, "KUBECACHEDIR": str(cluster.directory / "kube-cache")}
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise KubectlError(done.stderr.strip())
        return done.stdout

    return run


class KubectlError(Exception):
    pass


def objects(kubectl: Kubectl, *arguments: str) -> list[dict[str, Any]]:
    """What `kubectl get` finds."""
    items: list[dict[str, Any]] = json.loads(kubectl("get", "-o", "json", *arguments))["items"]
    return items
