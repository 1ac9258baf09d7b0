"""A cluster as an object: started in a directory, gone without a trace when stopped."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, Self

import httpx2

from dev.cluster import binary
from dev.cluster.errors import ClusterError
from dev.cluster.kubeconfig import write_kubeconfig
from dev.cluster.processes import alive, kill_group
from dev.machines.machine import DEFAULT, Machine, load_all, turned

REPOSITORY = Path(__file__).resolve().parent.parent.parent
_START_WITHIN = 200.0
_STOP_WITHIN = 30.0
_CHANGE_WITHIN = 60.0
_OLLAMA_PORT = 11434


def _quiet(_line: str) -> None:
    """Say nothing."""


@dataclass
class Cluster:
    """A running cluster: `kubeconfig` is the administrator's, `url` the API server's."""

    directory: Path
    _stdin: IO[bytes] | None = None
    _supervisor: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        directory: Path,
        machines: Iterable[Machine] = DEFAULT,
        *,
        detached: bool = False,
        models: str = "",
        backoff: float = 10.0,
        say: Callable[[str], None] = _quiet,
        on_step: Callable[[str, float], None] | None = None,
    ) -> Self:
        """Start a cluster whose files all lie in `directory` and return when it takes pods.

        It dies with this process unless `detached`. With `models` (a form and a rate in bytes
        per second, like `real:5M`) a local registry serves model stand-ins, and pods that mean
        registry.ollama.ai are led to it. A container that crashes again and again is
        restarted after `backoff` seconds, then after twice as many, and so on. `say` gets lines
        while the control plane is being made; `on_step` gets "control plane" and "machines" with
        the seconds so far. Raises ClusterError.
        """
        if sys.platform != "linux":
            raise ClusterError(
                "the local cluster runs on Linux only: it gives pods 127.x addresses"
            )
        control_plane = binary.find(say)
        directory = directory.absolute()
        if _taken_everywhere(_OLLAMA_PORT):
            say(
                f"note: a program listens on port {_OLLAMA_PORT} of all addresses, so no simulated"
                " Ollama can; stop it, or bind it to 127.0.0.1 alone"
            )
        _clear(directory)
        (directory / "logs").mkdir(parents=True)
        for machine in machines:
            machine.save(directory / "machines")
        _link_kubectl(directory, control_plane)
        command = [sys.executable, "-m", "dev.cluster.supervisor", str(directory)]
        command += [str(control_plane.directory), *([] if detached else ["--watch-stdin"])]
        command += [f"--models={models}"] if models else []
        with (directory / "logs" / "supervisor.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, "OLLAMA_FLEET_RESTART_BACKOFF": str(backoff)},
                stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                bufsize=0,
            )
        assert process.stdout is not None
        try:
            with process.stdout:
                failure = _follow(process.stdout, on_step)
        except BaseException:
            # Interrupted by the one who waits: nothing that was started may go on without them.
            process.terminate()
            process.wait()
            raise
        if failure:
            process.wait()
            if process.stdin:
                process.stdin.close()
            raise ClusterError(failure)
        return cls(directory, process.stdin, process)

    @classmethod
    def open(cls, directory: Path) -> Self | None:
        """The cluster that runs in a directory, or None."""
        cluster = cls(directory.absolute())
        try:
            state = cluster.state()
        except (OSError, ValueError):
            return None
        return cluster if cluster._supervised_by(state["supervisor"]) else None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def kubectl(self) -> Path:
        """A kubectl of the cluster's version."""
        return self.directory / "bin" / "kubectl"

    @property
    def url(self) -> str:
        """The API server's address."""
        return str(self.state()["url"])

    def state(self) -> dict[str, Any]:
        """What the supervisor wrote: its pid, the url, the programs' pids."""
        state: dict[str, Any] = json.loads((self.directory / "state.json").read_text())
        return state

    def stop(self) -> None:
        """Stop every process and remove the directory."""
        pid = self.state()["supervisor"]
        if self._stdin:
            self._stdin.close()
        if self._supervised_by(pid):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_WITHIN
        while self._supervised_by(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        if self._supervisor:
            self._supervisor.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def machines(self) -> dict[str, Machine]:
        """The machines by name."""
        return load_all(self.directory / "machines")

    def add_machine(self, machine: Machine) -> None:
        """Add a machine and return when it takes pods; ClusterError if the name is taken."""
        if machine.name in self.machines():
            raise ClusterError(f"there is a machine {machine.name} already; choose another name")
        machine.save(self.directory / "machines")
        self._until(f"{machine.name} has not become ready", lambda: self._takes_pods(machine.name))

    def remove_machine(self, name: str) -> None:
        """Take a machine away with all its pods, as if its power was cut."""
        if name not in self.machines():
            known = ", ".join(sorted(self.machines())) or "none"
            raise ClusterError(f"there is no machine {name}; there are: {known}")
        (self.directory / "machines" / f"{name}.json").unlink()
        self._until(f"{name} has not gone", lambda: self._node(name) is None)

    def turn(self, name: str, kubelet: Literal["on", "silent", "off"]) -> None:
        """Have a machine's kubelet fall silent while its pods run on, or cut its power, or have
        it back, and return when that is so; Kubernetes finds out by itself."""
        folder, machine = self.directory / "machines", self.machines()[name]
        if machine.kubelet == kubelet:
            return
        noted = turned(folder, name)
        noted.unlink(missing_ok=True)
        replace(machine, kubelet=kubelet).save(folder)
        self._until(f"{name} is not {kubelet}", lambda: noted.exists())

    def kill_pod_process(self, namespace: str, pod: str) -> None:
        """Send SIGKILL to all processes of a pod's containers; its restart policy takes over."""
        pids = list((self.directory / "pods" / f"{namespace}_{pod}").glob("*.pid"))
        if not pids:
            raise ClusterError(f"no process of pod {namespace}/{pod} runs here")
        for path in pids:
            kill_group(int(path.read_text()))

    def token_kubeconfig(self, namespace: str, service_account: str, path: Path) -> Path:
        """Write a kubeconfig that acts as a service account for a day."""
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}"
        with self._client() as client:
            answer = client.post(f"{account}/token", json={"spec": {"expirationSeconds": 86400}})
            if answer.status_code >= 400:
                raise ClusterError(str(answer.json().get("message")))
        token = answer.json()["status"]["token"]
        return write_kubeconfig(
            path, self.url, self._certificate("ca.crt"), user={"token": token}, namespace=namespace
        )

    def _supervised_by(self, pid: int) -> bool:
        """Whether a process is this cluster's supervisor, not another that was given its id."""
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            return False
        return (
            alive(pid)
            and "dev.cluster.supervisor" in arguments
            and (str(self.directory) in arguments)
        )

    def _certificate(self, name: str) -> Path:
        return self.directory / "certificates" / name

    def _client(self) -> httpx2.Client:
        context = ssl.create_default_context(cafile=str(self._certificate("ca.crt")))
        context.load_cert_chain(self._certificate("admin.crt"), self._certificate("admin.key"))
        return httpx2.Client(base_url=self.url, verify=context, timeout=20, trust_env=False)

    def _node(self, name: str) -> dict[str, Any] | None:
        with self._client() as client:
            answer = client.get(f"/api/v1/nodes/{name}")
        return None if answer.status_code == 404 else answer.json()

    def _takes_pods(self, name: str) -> bool:
        node = self._node(name)
        if node is None or node["spec"].get("taints"):
            return False
        conditions = node["status"].get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def _until(self, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _CHANGE_WITHIN
        while not done():
            if time.monotonic() > deadline:
                log = self.directory / "logs" / "machines.log"
                raise ClusterError(f"{what} after {_CHANGE_WITHIN:.0f} s; see {log}")
            time.sleep(0.1)


def _taken_everywhere(port: int) -> bool:
    """Whether a port is in use even on an address that nobody was given."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.127.255.254", port))
        except OSError:
            return True
    return False


def _clear(directory: Path) -> None:
    """Remove what an earlier cluster left here, but not the environment given to its pods."""
    for left in directory.glob("*"):
        if left.name == "environment.json":
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _link_kubectl(directory: Path, control_plane: binary.ControlPlane) -> None:
    link = directory / "bin" / "kubectl"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(control_plane.path("kubectl"))


def _follow(lines: IO[bytes], on_step: Callable[[str, float], None] | None) -> str | None:
    """Read the supervisor's reports; None once it is ready, else what failed."""
    deadline = time.monotonic() + _START_WITHIN
    while select.select([lines], [], [], max(0.0, deadline - time.monotonic()))[0]:
        line = lines.readline()
        if not line:
            return "the supervisor ended before the cluster was ready; see logs/supervisor.log"
        message = json.loads(line)
        if "failed" in message:
            quoted = "".join(f"\n  {text}" for text in message["log"])
            return f"the cluster did not start: {message['failed']}. Its log ends with:{quoted}"
        if "ready" in message:
            return None
        if on_step:
            on_step(message["step"], message["seconds"])
    return f"the cluster is not ready after {_START_WITHIN:.0f} s; see logs/supervisor.log"
