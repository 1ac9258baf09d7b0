"""The process that runs a cluster: it starts every program, restarts none, and ends them all.

Started as `python -m dev.cluster.supervisor DIRECTORY CONTROLPLANE [--watch-stdin]
[--models FORM:RATE]`. It tells its
starter how the start goes in lines of JSON on standard output, then says no more. With
--watch-stdin it ends when standard input does, that is when its starter dies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from dev.cluster import programs
from dev.cluster.binary import KUBERNETES, ControlPlane
from dev.cluster.processes import Process, adopt_orphans, descendants, kill_and_reap, reap_orphans
from dev.machines.apiserver import ApiError, ApiServer
from dev.machines.machine import load_all

_READY_WITHIN = 90.0
_POLL = 0.05
_QUOTED_LINES = 8


class StartError(Exception):
    """A program that did not start: which, why, and its log."""

    def __init__(self, program: str, why: str) -> None:
        super().__init__(f"{program} {why}")
        self.program = program


@dataclass
class Supervisor:
    """The programs of one cluster, in the order they were started."""

    layout: programs.Layout
    control_plane: ControlPlane
    models: str = ""
    running: dict[str, Process] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    async def start(self) -> None:
        """Start everything and return when pods can be created; StartError if that fails."""
        self._start("etcd", programs.etcd(self.layout))
        self._start("kube-apiserver", programs.apiserver(self.layout))
        admin = programs.admin(self.layout)
        api = ApiServer(
            self.layout.url,
            authority=self.layout.certificates / "ca.crt",
            certificate=admin.certificate,
            key=admin.key,
        )
        try:
            await self._until("kube-apiserver", "is not ready", lambda: _answers(api))
            self._report(step="control plane")
            if self.models:
                await self._serve_models()
            self._start("kube-controller-manager", programs.controller_manager(self.layout))
            self._start("kube-scheduler", programs.scheduler(self.layout))
            agent = [sys.executable, "-m", "dev.machines", str(self.layout.directory)]
            self._run("machines", [*agent, self.layout.url])
            names = set(load_all(self.layout.directory / "machines"))
            await self._until(
                "kube-controller-manager",
                "has made no default service account",
                lambda: _exists(api, "/api/v1/namespaces/default/serviceaccounts/default"),
            )
            await self._until(
                "machines", "has not registered all machines", lambda: _schedulable(api, names)
            )
            self._report(step="machines")
        finally:
            await api.close()

    async def _serve_models(self) -> None:
        """Start the local model registry, and lead the pods to it by their environment."""
        form, _, rate = self.models.partition(":")
        command = [sys.executable, "-m", "dev.ollama.registry", f"--form={form}"]
        self._run("registry", [*command, f"--rate={rate or 0}"])
        log = self.layout.logs / "registry.log"

        async def said() -> bool:
            return log.read_text().startswith("{")

        await self._until("registry", "does not serve", said)
        environment = self.layout.directory / "environment.json"
        given = json.loads(environment.read_text()) if environment.exists() else {}
        leading = json.loads(log.read_text().splitlines()[0])["environment"]
        environment.write_text(json.dumps({**given, **leading}))

    def _start(self, program: str, flags: list[str]) -> None:
        self._run(program, [*self.control_plane.command(program), *flags])

    def _run(self, name: str, command: list[str]) -> None:
        """Start a program; the agent gets a TERM when we die, so that it can end its pods."""
        death = signal.SIGTERM if name == "machines" else signal.SIGKILL
        process = Process(command, log=self.layout.logs / f"{name}.log", death_signal=death)
        self.running[name] = process

    async def _until(self, program: str, why: str, done: Any) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while not await done():
            for name, process in self.running.items():
                if process.returncode is not None:
                    raise StartError(name, _ending(process.returncode))
            if time.monotonic() > deadline:
                raise StartError(program, f"{why} after {_READY_WITHIN:.0f} s")
            await asyncio.sleep(_POLL)

    def _report(self, **message: object) -> None:
        elapsed = round(time.monotonic() - self.started, 1)
        print(json.dumps({**message, "seconds": elapsed}), flush=True)

    def save_state(self) -> None:
        """Write what `status` and `down` need to know."""
        state = {
            "supervisor": os.getpid(),
            "url": self.layout.url,
            "kubernetes": KUBERNETES,
            "started": time.time(),
            "programs": {name: process.pid for name, process in self.running.items()},
        }
        draft = self.layout.directory / ".state"
        draft.write_text(json.dumps(state))
        draft.rename(self.layout.directory / "state.json")

    async def watch(self) -> None:
        """Record in our own log (standard error) whatever ends before it should."""
        own = {process.pid for process in self.running.values()}
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, lambda: reap_orphans(own))

        async def record(name: str, process: Process) -> None:
            how = _ending(await process.wait())
            print(f"{time.strftime('%H:%M:%S')} {name} {how}", file=sys.stderr, flush=True)

        await asyncio.gather(*(record(name, process) for name, process in self.running.items()))

    async def stop(self) -> None:
        """End the agent, which ends its pods; then the rest, and whatever was left behind."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        agent = self.running.pop("machines", None)
        if agent:
            await agent.stop(grace=10)
        # What they hold is thrown away, so nothing is gained by asking politely.
        for process in self.running.values():
            process.kill_group()
        await asyncio.gather(*(process.wait() for process in self.running.values()))
        while left := descendants(os.getpid()):
            kill_and_reap(left)
            await asyncio.sleep(_POLL)


async def _answers(api: ApiServer) -> bool:
    try:
        return await api.text("/readyz") == "ok"
    except (httpx2.HTTPError, ApiError):
        return False


async def _exists(api: ApiServer, path: str) -> bool:
    try:
        await api.get(path)
    except (httpx2.HTTPError, ApiError):
        return False
    return True


async def _schedulable(api: ApiServer, names: set[str]) -> bool:
    """Whether all these machines take pods, and claims find their storage class."""
    try:
        nodes = (await api.get("/api/v1/nodes"))["items"]
    except (httpx2.HTTPError, ApiError):
        return False
    free = {node["metadata"]["name"] for node in nodes if not node["spec"].get("taints")}
    return names <= free and await _exists(api, "/apis/storage.k8s.io/v1/storageclasses/local")


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    return f"was ended by {signal.Signals(-returncode).name}"


def _last_lines(log: Path) -> list[str]:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-_QUOTED_LINES:]


async def _main(
    directory: Path, control_plane: ControlPlane, watch_stdin: bool, models: str
) -> int:
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ending.set)
    if watch_stdin:

        def on_stdin() -> None:
            if not os.read(0, 4096):
                ending.set()

        loop.add_reader(0, on_stdin)
    adopt_orphans()
    supervisor = Supervisor(programs.prepare(directory), control_plane, models)
    supervisor.save_state()
    start = asyncio.create_task(supervisor.start())
    stopped = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait({start, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            start.cancel()
            return 1
        try:
            start.result()
        except (StartError, OSError) as error:
            program = getattr(error, "program", "supervisor")
            lines = _last_lines(supervisor.layout.logs / f"{program}.log")
            print(json.dumps({"failed": str(error), "log": lines}), flush=True)
            return 1
        supervisor.save_state()
        print(json.dumps({"ready": supervisor.layout.url}), flush=True)
        _close_stdout()
        watching = asyncio.create_task(supervisor.watch())
        await stopped
        watching.cancel()
        return 0
    finally:
        await supervisor.stop()


def _close_stdout() -> None:
    """Let the starter's end of the pipe close."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def main() -> int:
    """Run one cluster until told to end."""
    parser = argparse.ArgumentParser(prog="python -m dev.cluster.supervisor")
    parser.add_argument("directory", type=Path)
    parser.add_argument("controlplane", type=Path)
    parser.add_argument("--watch-stdin", action="store_true")
    parser.add_argument("--models", default="", help="serve models: their form, and bytes/s")
    arguments = parser.parse_args()
    control_plane = ControlPlane(arguments.controlplane)
    return asyncio.run(
        _main(arguments.directory, control_plane, arguments.watch_stdin, arguments.models)
    )


if __name__ == "__main__":
    raise SystemExit(main())
