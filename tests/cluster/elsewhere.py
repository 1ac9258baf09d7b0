"""Emulated servers that run outside the cluster."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.cluster import Cluster
from tests.cluster.waiting import eventually


def registry_environment(cluster: Cluster) -> dict[str, str]:
    """What leads a program to the cluster's registry where it means Ollama's own."""
    log: Path = cluster.directory / "logs" / "registry.log"
    found: dict[str, str] = json.loads(log.read_text().splitlines()[0])["environment"]
    return found


@contextmanager
def emulator(port: int, folder: Path, **environment: str) -> Iterator[str]:
    """An emulated server on this machine, killed in the end; the folder keeps its models."""
    given = {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(folder), **environment}
    program = Path(__file__).parents[2] / "dev" / "ollama" / "emulator" / "__main__.py"
    process = subprocess.Popen(
        [sys.executable, str(program)],
        env={**given, "PYTHONPATH": str(program.parents[3])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually("the emulator answers", lambda: _listens(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
