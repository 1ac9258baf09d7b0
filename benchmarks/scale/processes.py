"""The operator and a router's replica as processes of their own, which end with this one."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import httpx2

from benchmarks.scale.fleet import ALL, NAMESPACE
from dev.cluster import Cluster
from dev.cluster.processes import Process

OPERATOR = "ollama-fleet"
"""Its namespace and its service account."""
_BIN = Path(sys.executable).parent


class Operator:
    """The operator as a process, with the rights of the installed one."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._folder = folder
        self._given = json.loads((cluster.directory / "environment.json").read_text())
        self._kubeconfig = cluster.token_kubeconfig(OPERATOR, OPERATOR, folder / "operator")
        self._port = _free_port()
        self._process: Process | None = None

    def start(self) -> None:
        own = {
            "KUBECONFIG": str(self._kubeconfig),
            "POD_NAME": "operator",
            "POD_NAMESPACE": OPERATOR,
            "OLLAMA_FLEET_IMAGE": "ollama-fleet/ollama-fleet:0.1.0",
        }
        # on a machine that does everything the API server may be too busy to renew a Lease
        command = [str(_BIN / "ollama-fleet-operator"), "--no-leader-elect"]
        command += ["--host=127.0.0.1", f"--port={self._port}"]
        environment = {**os.environ, **self._given, **own}
        log = self._folder / "operator.log"
        self._process = Process(command, environment=environment, log=log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill_group()
            await self._process.wait()

    def check(self) -> None:
        """SystemExit where it has ended."""
        if self._process is not None and self._process.returncode is not None:
            raise SystemExit("the operator has ended")

    async def reconciled(self) -> tuple[int, int]:
        """How many reconciles have succeeded, and how many objects wait for one; SystemExit where
        it has ended."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            with suppress(httpx2.HTTPError):
                answer = await client.get(f"http://127.0.0.1:{self._port}/metrics", timeout=30)
                figures = [line.split() for line in answer.text.splitlines() if line[:1] != "#"]
                done = sum(
                    float(value)
                    for name, value in figures
                    if name.startswith("ollama_fleet_reconcile_duration_seconds_count{")
                    and 'result="ok"' in name
                )
                waiting = [float(v) for n, v in figures if n == "ollama_fleet_reconcile_queue"]
                return int(done), int(waiting[0]) if waiting else 1
        self.check()
        return 0, 1


class Replica:
    """A router as a process, with the rights of its Router's pods."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.port = _free_port()
        kubeconfig = cluster.token_kubeconfig(NAMESPACE, f"{ALL}-router", folder / "router")
        command = [
            str(_BIN / "ollama-fleet-router"),
            f"--router={ALL}",
            f"--namespace={NAMESPACE}",
            "--host=127.0.0.1",
            "--port=0",
            f"--metrics-port={self.port}",
        ]
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._process = Process(command, environment=environment, log=folder / "router.log")
        self.pid = self._process.pid

    async def states(self) -> dict[str, str]:
        """The state of each server there, by name; empty while it does not answer."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.port}/servers", timeout=30)
            except httpx2.HTTPError:
                return {}
        return {one["name"]: one["state"] for one in answer.json()["servers"]}

    async def kill(self) -> None:
        self._process.kill_group()
        await self._process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
