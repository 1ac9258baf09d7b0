"""The local cluster's command line, and that nothing of a cluster is ever left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dev.cluster import Cluster, binary
from dev.cluster.cluster import REPOSITORY
from tests.cluster.waiting import eventually

PARENT = """
import pathlib, sys
from dev.cluster import Cluster
cluster = Cluster.start(pathlib.Path(sys.argv[1]))
print("started", flush=True)
sys.stdin.read()
"""
STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("ready", flush=True)
while True: signal.pause()
"""


def processes_of(directory: Path) -> list[str]:
    """The command lines of all processes that name the directory, or run in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                inside = (entry / "cwd").readlink().is_relative_to(directory)
                if inside or str(directory) in line:
                    found.append(f"{entry.name} {line}")
    return found


def run_stubborn_pod(directory: Path) -> None:
    """A pod that ignores TERM and has a child."""
    container = {"name": "main", "image": "local/python", "args": ["-c", STUBBORN]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stubborn"},
        "spec": {"containers": [container]},
    }
    environment = {**os.environ, "KUBECONFIG": str(directory / "kubeconfig")}
    kubectl = [str(directory / "bin" / "kubectl"), "apply", "-f", "-"]
    subprocess.run(kubectl, input=json.dumps(pod), env=environment, text=True, check=True)
    log = directory / "pods" / "default_stubborn" / "main.log"
    eventually("the pod runs", lambda: log.exists() and "ready" in log.read_text())


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has started a cluster in tmp_path/cluster, with a stubborn pod."""
    command = [sys.executable, "-c", PARENT, str(tmp_path / "cluster")]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        run_stubborn_pod(tmp_path / "cluster")
        yield process
        process.kill()


def test_killing_the_parent_leaves_no_process(
    parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert len(processes_of(tmp_path / "cluster")) >= 8
    parent.kill()
    parent.wait()
    eventually("all processes end", lambda: not processes_of(tmp_path / "cluster"))


def test_killing_the_supervisor_leaves_no_process(
    parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    cluster = Cluster.open(tmp_path / "cluster")
    assert cluster is not None
    os.kill(cluster.state()["supervisor"], signal.SIGKILL)
    eventually(
        "all processes end",
        lambda: [p for p in processes_of(cluster.directory) if str(parent.pid) not in p] == [],
    )


def cli(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dev.cluster", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "OLLAMA_FLEET_CLUSTER_DIR": str(directory), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cluster"
    cli(tmp_path / "cluster", "down")


def test_up_and_down(directory: Path) -> None:
    up = cli(directory, "up")
    assert up.returncode == 0, up.stderr
    assert up.stderr == ""
    assert len(up.stdout.splitlines()) <= 8
    assert f"export KUBECONFIG={directory}/kubeconfig" in up.stdout
    assert (directory / "kubeconfig").stat().st_mode & 0o777 == 0o600
    assert re.search(r"^Up in [\d.]+ s", up.stdout, re.MULTILINE)

    again = cli(directory, "up")
    assert again.returncode == 0
    assert again.stdout.startswith("The cluster runs already")

    added = cli(directory, "add-machine", "gpu-48g", "--gpu-memory", "48Gi", "--label", "a=b")
    assert added.returncode == 0, added.stderr
    assert [line.split() for line in cli(directory, "machines").stdout.splitlines()] == [
        ["NAME", "GPUS", "MEMORY", "VENDOR"],
        ["gpu-12g", "1", "12Gi", "nvidia"],
        ["gpu-24g", "1", "24Gi", "nvidia"],
        ["gpu-48g", "1", "48Gi", "nvidia"],
        ["gpu-6g", "1", "6Gi", "nvidia"],
    ]
    assert cli(directory, "remove-machine", "gpu-48g").returncode == 0
    status = cli(directory, "status")
    assert status.returncode == 0
    assert status.stdout.count(" running ") == 5

    run_stubborn_pod(directory)
    down = cli(directory, "down")
    assert down.returncode == 0, down.stderr
    assert not directory.exists()
    assert processes_of(directory) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["status"], "cluster: no cluster runs; start one with: python -m dev.cluster up"),
        (["add-machine", "x", "--gpu-memory", "much"], "cluster: 'much' is no quantity"),
        (["add-machine", "x"], "cluster: x needs at least one GPU with memory"),
        (["add-machine", "X!", "--vendor", "none"], "cluster: a machine cannot be called 'X!'"),
        (["add-machine", "x", "--vendor", "none", "--label", "a"], "cluster: --label a: write it"),
        (["add-machine", "x", "--resource", "a=b"], "cluster: --resource a=b: write how many"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    done = cli(tmp_path / "none", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(complaint)
    assert done.stderr.count("\n") == 1


def test_down_without_a_cluster_is_no_error(tmp_path: Path) -> None:
    done = cli(tmp_path / "none", "down")
    assert (done.returncode, done.stdout) == (0, "No cluster runs.\n")


def stand_ins(directory: Path, **scripts: str) -> str:
    """A control plane of shell scripts that wait, but for those given."""
    directory.mkdir()
    for name in binary.PROGRAMS:
        program = directory / name
        program.write_text(f"#!/bin/sh\n{scripts.get(name, 'sleep 600')}\n")
        program.chmod(0o755)
    return str(directory)


def test_an_interrupted_start_leaves_no_process(tmp_path: Path, directory: Path) -> None:
    given = {
        "OLLAMA_FLEET_CLUSTER_DIR": str(directory),
        "OLLAMA_FLEET_CONTROLPLANE": stand_ins(tmp_path / "programs"),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "dev.cluster", "up"],
        cwd=REPOSITORY,
        env={**os.environ, **given},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as up:
        eventually(
            "the programs run",
            lambda: "/kube-apiserver --etcd" in " ".join(processes_of(directory)),
        )
        up.send_signal(signal.SIGINT)
        _, said = up.communicate(timeout=30)
    assert (up.returncode, said) == (130, "cluster: interrupted\n")
    assert processes_of(directory) == []


def test_a_failed_start_quotes_the_log_and_leaves_no_process(
    tmp_path: Path, directory: Path
) -> None:
    programs = stand_ins(tmp_path / "programs", etcd="echo the disk is on fire; exit 7")
    up = cli(directory, "up", OLLAMA_FLEET_CONTROLPLANE=programs)
    assert up.returncode == 1
    assert up.stderr.splitlines() == [
        "cluster: the cluster did not start: etcd ended with exit code 7. Its log ends with:",
        "  the disk is on fire",
    ]
    assert processes_of(directory) == []
