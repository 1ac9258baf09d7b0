"""An operator of a test's own, that may be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ollama_fleet.kube.kinds import SERVICE_ACCOUNT
from tests.cluster.conftest import Kubectl, operator_stopped
from tests.cluster.fleet import OPERATOR, Api, Fleet
from tests.cluster.waiting import eventually

PROGRAM = Path(sys.executable).with_name("ollama-fleet-operator")


@pytest.fixture
def alone(fleet: Fleet, kubectl: Kubectl, api: Api) -> Iterator[None]:
    """No operator runs but the test's own."""
    with operator_stopped(kubectl, api):
        yield


@contextmanager
def operating(fleet: Fleet, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An operator with the rights of the installed one, killed in the end."""
    kubeconfig = folder / "operator"
    if not kubeconfig.exists():
        fleet.cluster.token_kubeconfig(OPERATOR, OPERATOR, kubeconfig)
    given = json.loads((fleet.cluster.directory / "environment.json").read_text())
    own = {
        "KUBECONFIG": str(kubeconfig),
        "POD_NAME": "operator-of-a-test",
        "POD_NAMESPACE": OPERATOR,
        "OLLAMA_FLEET_IMAGE": "ollama-fleet/ollama-fleet:0.1.0",
    }
    with (folder / "operator.log").open("ab") as log:
        process = subprocess.Popen(
            [str(PROGRAM), "--host=127.0.0.1", "--port=0"],
            env={**os.environ, **given, **own},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def another(cluster: Any, api: Api, fleet: Fleet) -> Iterator[Fleet]:
    """A second namespace."""
    name = f"{fleet.namespace}-undisturbed"
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    api.call("POST", "/api/v1/namespaces", made)
    eventually(f"{name} takes pods", lambda: api.get(SERVICE_ACCOUNT, "default", name))
    here = Fleet(cluster, api, name)
    yield here
    here.end()
