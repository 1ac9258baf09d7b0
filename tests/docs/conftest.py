"""A cluster for the pages, with the programs that their readers have."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev import fleet
from dev.chart import find_helm
from dev.cluster import Cluster
from dev.ollama import binary
from tests.docs.pages import ROOT
from tests.docs.shell import Shell

_NEEDED = ("bash", "curl", "openssl", "sha256sum")
_EMULATOR = ROOT / "dev" / "ollama" / "emulator" / "__main__.py"
_OLLAMA = """#!/bin/sh
if [ "$1" = serve ]; then exec env {variables} "{python}" "{emulator}"; fi
exec "{ollama}" "$@"
"""


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Shows a line at once: what is made on first use takes minutes."""
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    return terminal.write_line if terminal else print


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], None]
) -> Iterator[Cluster]:
    """The cluster of `make cluster`, before anything is installed; servers are emulated."""
    directory = tmp_path_factory.mktemp("cluster")
    patch = pytest.MonkeyPatch()
    patch.setenv("OLLAMA_FLEET_SERVER", "emulator")
    models = fleet.prepare(directory)
    patch.undo()
    path = directory / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "EMULATOR_VERSION": "0.35.1"}))
    started = Cluster.start(directory, models=models, backoff=1.0, say=say)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def programs(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, say: Callable[[str], None]
) -> Path:
    """A folder for PATH: kubectl, helm, ollama, and our own programs."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    assert not missing, f"the pages' commands need {', '.join(missing)}"
    ollama = binary.find()
    assert ollama, "the pages need Ollama's command line: `make tools` builds it"
    folder = tmp_path_factory.mktemp("bin")
    (folder / "kubectl").symlink_to(cluster.kubectl)
    (folder / "helm").symlink_to(find_helm(say))
    for program in Path(sys.executable).parent.glob("ollama-fleet-*"):
        (folder / program.name).symlink_to(program)
    given = json.loads((cluster.directory / "environment.json").read_text())
    variables = " ".join(shlex.quote(f"{name}={value}") for name, value in given.items())
    (folder / "ollama").write_text(
        _OLLAMA.format(
            variables=variables, python=sys.executable, emulator=_EMULATOR, ollama=ollama
        )
    )
    (folder / "ollama").chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def open_shell(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, programs: Path
) -> Callable[[], Shell]:
    """Opens a shell in a folder with what a reader's clone has, in which files may be written."""
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "OLLAMA_FLEET_CLUSTER_DIR": str(cluster.directory),
        "KUBECACHEDIR": str(cluster.directory / "kube-cache"),
        "HELM_CACHE_HOME": str(cluster.directory / "helm"),
        "PATH": f"{programs}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "NO_PROXY": "*",
    }

    def opened() -> Shell:
        folder = tmp_path_factory.mktemp("clone")
        for name in ("charts", "manifests", "docs", "dev"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(sys.prefix)
        return Shell(folder, environment)

    return opened


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Callable[..., subprocess.CompletedProcess[str]]:
    """kubectl with a text as its input."""

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)

    return run
