"""A fleet on the local cluster: the operator by chart or manifests/, the sample, models to pull."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from dev import chart
from dev.cluster.cluster import REPOSITORY, Cluster
from dev.cluster.errors import ClusterError
from dev.ollama import binary

SAMPLE = "manifests/samples/demo.yaml"
OPERATOR = ("ollama-fleet", "deployment/ollama-fleet")
"""The namespace of the operator, and its Deployment."""
_REAL = "real:30M"
_EMULATED = "sized:0"
_EMULATOR = {
    "EMULATOR_PULL_BYTES_PER_SECOND": "4G",
    "EMULATOR_LOAD_BYTES_PER_SECOND": "10G",
    "EMULATOR_TOKENS_PER_SECOND": "400",
}
_AVAILABLE_WITHIN = "90s"


def is_real() -> bool:
    """Whether servers are the real Ollama; without its binary they are emulated."""
    return os.environ.get("OLLAMA_FLEET_SERVER") != "emulator" and binary.find() is not None


def servers() -> str:
    """What runs as a server, in words."""
    return f"Ollama {binary.VERSION} (real)" if is_real() else "emulated Ollama"


def prepare(directory: Path) -> str:
    """Choose the servers of a cluster in ``directory``; returns the ``models`` to start it with."""
    if is_real():
        return _REAL
    directory.mkdir(parents=True, exist_ok=True)
    chosen = {**_EMULATOR, "OLLAMA_FLEET_SERVER": "emulator"}
    (directory / "environment.json").write_text(json.dumps(chosen))
    return _EMULATED


def install(cluster: Cluster, helm: Path | None) -> str:
    """Install the chart with helm, or without one manifests/, and return when the operator is
    available; the command, in short. Raises ClusterError.
    """
    namespace, deployment = OPERATOR
    timeout = f"--timeout={_AVAILABLE_WITHIN}"
    if helm is not None:
        where = ("--namespace", namespace, "--create-namespace", "--kubeconfig")
        install = ("install", namespace, str(chart.CHART), *where, str(cluster.kubeconfig))
        try:
            chart.run(helm, *install, "--wait", timeout)
        except chart.ChartError as error:
            raise ClusterError(f"helm install: {error}") from None
        return "helm install charts/ollama-fleet"
    kubectl(cluster, "apply", "--server-side", "-k", "manifests/")
    kubectl(cluster, "rollout", "status", "-n", namespace, deployment, timeout)
    return "kubectl apply -k manifests/"


def apply_sample(cluster: Cluster, namespace: str = "default") -> None:
    """Apply the sample fleet. Raises ClusterError."""
    kubectl(cluster, "apply", "-n", namespace, "-f", SAMPLE)


def kubectl(cluster: Cluster, *arguments: str) -> str:
    """Run the cluster's kubectl as the administrator, from the repository's root."""
    home = str(cluster.directory / "kube-cache")
    done = subprocess.run(
        [str(cluster.kubectl), *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "KUBECACHEDIR": home},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()[:500]}")
    return done.stdout
