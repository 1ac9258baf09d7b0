"""What a fleet costs as it grows from 10 to 1,000 servers: `make bench-scale`.

A real API server, scheduler and controllers; the machines run nothing, and one process answers for
all servers. The operator and a router's replica are processes of their own, with the rights of
those that are installed. Costs that grow faster than the fleet fail the bench.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.scale.costs import Audit, Calls, cpu, rss
from benchmarks.scale.fleet import ADDED, ALL, NAMESPACE, OURS, Size, ready
from dev.cluster import Cluster
from dev.fleet import kubectl
from ollama_fleet.kube import Kube, KubeError
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, NODE, OLLAMA_NODE

SIZES = (Size(10, 1, 2, 1), Size(100, 5, 10, 2), Size(1000, 50, 100, 10))
REST = 120.0
"""Seconds for which a fleet at rest is watched."""
QUIET = 6.0
"""Seconds without a write after which nothing more is expected of a change."""
WITHIN = 900.0
MOST = 1.5
"""How much more one more server may cost among 1,000 than among 100."""
RESULT = Path(__file__).parents[1] / "results" / "scale.json"
_INSTALLED = ("namespace", "crds", "serviceaccount", "clusterroles", "bindings", "leader")
_OPERATOR = "ollama-fleet"
_BIN = Path(sys.executable).parent


@dataclass
class Row:
    """One size, and what it cost."""

    servers: int
    nodes: int
    distributions: int
    routers: int
    converge_seconds: float = 0.0
    converge_calls: int = 0
    converge_cpu: float = 0.0
    rest_rss: float = 0.0
    rest_cpu: float = 0.0
    """Percent of one core."""
    rest_calls: int = 0
    rest_writes: int = 0
    label_seconds: float = 0.0
    label_calls: int = 0
    label_cpu: float = 0.0
    model_seconds: float = 0.0
    model_calls: int = 0
    model_cpu: float = 0.0
    failure_routed: float = 0.0
    """Seconds from the failure of a server until a router sends nothing there."""
    failure_told: float = 0.0
    """Seconds until its OllamaNode says so."""
    failure_calls: int = 0
    failure_cpu: float = 0.0
    router_start_cpu: float = 0.0
    router_rss: float = 0.0
    router_cpu: float = 0.0
    router_change_cpu: float = 0.0
    """Seconds of a router's CPU for the three changes."""
    restart_seconds: float = 0.0
    restart_calls: int = 0
    restart_cpu: float = 0.0


TITLES = {
    "converge_seconds": "from nothing: s",
    "converge_calls": "from nothing: API calls",
    "converge_cpu": "from nothing: CPU s",
    "rest_rss": "at rest: MiB",
    "rest_cpu": "at rest: % of a core",
    "rest_calls": "at rest: API calls in 2 min",
    "rest_writes": "at rest: writes but the Lease's",
    "label_seconds": "a label: s",
    "label_calls": "a label: API calls",
    "label_cpu": "a label: CPU s",
    "model_seconds": "a model more: s",
    "model_calls": "a model more: API calls",
    "model_cpu": "a model more: CPU s",
    "failure_routed": "a server fails: s until no traffic",
    "failure_told": "a server fails: s until told",
    "failure_calls": "a server fails: API calls",
    "failure_cpu": "a server fails: CPU s",
    "router_start_cpu": "router starts: CPU s until all are Ready",
    "router_rss": "router at rest: MiB",
    "router_cpu": "router at rest: % of a core",
    "router_change_cpu": "router, the three changes: CPU s",
    "restart_seconds": "operator restarts: s until all is known",
    "restart_calls": "operator restarts: API calls",
    "restart_cpu": "operator restarts: CPU s",
}
GROWING = {
    "converge_calls": 0.0,
    "converge_cpu": 1.0,
    "rest_rss": 10.0,
    "rest_cpu": 0.5,
    "rest_calls": 10.0,
    "label_calls": 5.0,
    "label_cpu": 0.3,
    "model_calls": 20.0,
    "model_cpu": 0.3,
    "failure_calls": 10.0,
    "failure_cpu": 0.3,
    "router_start_cpu": 0.5,
    "router_rss": 10.0,
    "router_cpu": 0.5,
    "router_change_cpu": 0.3,
    "restart_calls": 10.0,
    "restart_cpu": 1.0,
}
"""Costs that may grow as the fleet does and no faster, and what is lost in the noise of each."""


class Operator:
    """The operator as a process, with the rights of the installed one."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._folder = folder
        self._given = json.loads((cluster.directory / "environment.json").read_text())
        self._kubeconfig = cluster.token_kubeconfig(_OPERATOR, _OPERATOR, folder / "operator")
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        own = {
            "KUBECONFIG": str(self._kubeconfig),
            "POD_NAME": "operator",
            "POD_NAMESPACE": _OPERATOR,
            "OLLAMA_FLEET_IMAGE": "ollama-fleet/ollama-fleet:0.1.0",
        }
        # on a machine that does everything the API server may be too busy to renew a Lease
        command = [str(_BIN / "ollama-fleet-operator"), "--no-leader-elect"]
        command += ["--host=127.0.0.1", f"--port={self._port}"]
        with (self._folder / "operator.log").open("ab") as log:
            environment = {**os.environ, **self._given, **own}
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def check(self) -> None:
        """SystemExit where it has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise SystemExit("the operator has ended")

    async def reconciled(self) -> tuple[int, int]:
        """How many reconciles have succeeded, and how many objects wait for one; SystemExit where
        it has ended."""
        async with httpx.AsyncClient(trust_env=False) as client:
            with suppress(httpx.HTTPError):
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
        with (folder / "router.log").open("ab") as log:
            environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.pid = self._process.pid

    async def states(self) -> dict[str, str]:
        """The state of each server there, by name; empty while it does not answer."""
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.port}/servers", timeout=30)
            except httpx.HTTPError:
                return {}
        return {one["name"]: one["state"] for one in answer.json()["servers"]}

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class Ground:
    """A cluster with machines that run nothing, and the parts under test."""

    def __init__(self, cluster: Cluster, kube: Kube, folder: Path, machines: Any) -> None:
        self.kube = kube
        self.cluster = cluster
        self.folder = folder
        self._machines = machines
        log = cluster.directory / "logs" / "audit.log"
        self.audit = Audit(log, f"{_OPERATOR}:{_OPERATOR}")
        self.operator = Operator(cluster, folder)

    async def order(self, what: str) -> None:
        """Tell the machines what becomes of a server."""
        self._machines.stdin.write(f"{what}\n".encode())
        await self._machines.stdin.drain()

    async def all_ready(self) -> bool:
        """Whether every resource says so; SystemExit where nobody is left to make it so."""
        self.operator.check()
        for kind in OURS:
            with suppress(KubeError):
                found = await self.kube.list(kind, NAMESPACE)
                if not all(map(ready, found)):
                    return False
        return True

    async def change(self, act: Callable[[], Awaitable[None]]) -> tuple[float, Calls, float]:
        """Do something to a fleet at rest: seconds until its last write, calls, CPU seconds."""
        place, used, began = self.audit.now(), cpu(self.operator.pid), time.time()
        await act()
        await self.quiet(place)
        calls = self.audit.since(place)
        return max(0.0, calls.last_write - began), calls, cpu(self.operator.pid) - used

    async def quiet(self, place: int) -> None:
        """Until the operator has written nothing, and had nothing to do, for QUIET seconds."""
        still = time.time()
        deadline = time.time() + WITHIN
        while time.time() < still + QUIET:
            await asyncio.sleep(0.5)
            _, waiting = await self.operator.reconciled()
            if waiting:
                still = time.time()
            still = max(still, self.audit.since(place).last_write)
            if time.time() > deadline:
                raise SystemExit(f"the operator still writes after {WITHIN:.0f} s")


async def measure(size: Size, folder: Path, say: Callable[[str], None]) -> Row:
    """One size on a cluster of its own."""
    row = Row(**asdict(size))
    async with AsyncExitStack() as stack:
        ground = await _ground(size, folder, stack)
        operator, kube = ground.operator, ground.kube
        stack.callback(operator.kill)
        operator.start()
        await _until("the operator leads", lambda: _rests(operator))

        place, used, began = ground.audit.now(), cpu(operator.pid), time.time()
        for obj in size.objects():
            await kube.apply(obj, field_manager="bench")
        await _until("all are Ready", ground.all_ready, pause=0.5 + size.servers / 500)
        row.converge_seconds = time.time() - began
        await ground.quiet(place)
        calls = ground.audit.since(place)
        row.converge_calls, row.converge_cpu = calls.total, cpu(operator.pid) - used
        say(f"from nothing: {row.converge_seconds:.0f} s; {dict(calls.by_verb.most_common(12))}")

        router = Replica(ground.cluster, folder)
        stack.callback(router.kill)
        await _until("the router knows all servers", lambda: _knows(router, size.servers))
        row.router_start_cpu = cpu(router.pid)
        await asyncio.sleep(QUIET)
        place, used, routers = ground.audit.now(), cpu(operator.pid), cpu(router.pid)
        await asyncio.sleep(REST)
        calls = ground.audit.since(place)
        row.rest_calls, row.rest_writes = calls.total, calls.writes
        row.rest_cpu = 100 * (cpu(operator.pid) - used) / REST
        row.router_cpu = 100 * (cpu(router.pid) - routers) / REST
        row.rest_rss, row.router_rss = rss(operator.pid), rss(router.pid)
        say(f"at rest: {dict(calls.by_verb)}")

        routers = cpu(router.pid)
        await _changes(row, ground, router)
        row.router_change_cpu = cpu(router.pid) - routers
        await _restart(row, ground, len(size.objects()))
    return row


async def _ground(size: Size, folder: Path, stack: AsyncExitStack) -> Ground:
    cluster = await asyncio.to_thread(
        Cluster.start, folder / "cluster", machines=(), models="sized:0"
    )
    stack.callback(cluster.stop)
    kube = await stack.enter_async_context(await Kube.connect(str(cluster.kubeconfig)))
    for name in _INSTALLED:
        await asyncio.to_thread(
            kubectl, cluster, "apply", "--server-side", "-f", f"manifests/{name}.yaml"
        )
    await asyncio.to_thread(kubectl, cluster, "create", "namespace", NAMESPACE)

    async def served() -> bool:
        with suppress(KubeError):
            for kind in OURS:
                await kube.list(kind)
            return True
        return False

    await _until("our kinds are served", served)
    count = size.servers // 200 + 1
    with (folder / "machines.log").open("ab") as log:
        machines = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.scale.machines"),
            *(str(cluster.directory), str(count)),
            stdin=subprocess.PIPE,
            stderr=log,
        )
    stack.callback(machines.kill)

    async def there() -> bool:
        nodes = await kube.list(NODE)
        return sum(not one["spec"].get("taints") for one in nodes) == count

    await _until("the machines take pods", there)
    return Ground(cluster, kube, folder, machines)


async def _changes(row: Row, ground: Ground, router: Replica) -> None:
    kube = ground.kube

    async def label() -> None:
        change = {"metadata": {"labels": {"colour": "blue"}}}
        await kube.patch(OLLAMA_NODE, "node-0", NAMESPACE, change)

    async def model() -> None:
        found = await kube.get(MODEL_DISTRIBUTION, "models-0", NAMESPACE)
        assert found is not None
        change = {"spec": {"models": [*found["spec"]["models"], {"name": ADDED}]}}
        await kube.patch(MODEL_DISTRIBUTION, "models-0", NAMESPACE, change)
        await _until("the model is installed", ground.all_ready)

    async def failure() -> None:
        began = time.monotonic()
        await ground.order("fail node-0-0")
        watching = asyncio.create_task(_avoids(router, "node-0-0"))
        await _until("its OllamaNode tells", lambda: _told(kube), pause=0.02)
        row.failure_told = time.monotonic() - began
        row.failure_routed = await watching - began

    row.label_seconds, calls, row.label_cpu = await ground.change(label)
    row.label_calls = calls.total
    row.model_seconds, calls, row.model_cpu = await ground.change(model)
    row.model_calls = calls.total
    _, calls, row.failure_cpu = await ground.change(failure)
    row.failure_calls = calls.total
    await ground.order("start node-0-0")
    await _until("all are Ready again", ground.all_ready)


async def _restart(row: Row, ground: Ground, objects: int) -> None:
    operator = ground.operator
    await ground.quiet(ground.audit.now())
    place, began = ground.audit.now(), time.monotonic()
    operator.kill()
    operator.start()

    async def knows() -> bool:
        done, waiting = await operator.reconciled()
        return done >= objects and not waiting

    await _until("it has reconciled everything", knows)
    row.restart_seconds = time.monotonic() - began
    await ground.quiet(place)
    row.restart_calls = ground.audit.since(place).total
    row.restart_cpu = cpu(operator.pid)


async def _rests(operator: Operator) -> bool:
    return (await operator.reconciled())[1] == 0


async def _knows(router: Replica, servers: int) -> bool:
    states = await router.states()
    return len(states) == servers and set(states.values()) == {"Ready"}


async def _avoids(router: Replica, server: str) -> float:
    async def avoided() -> bool:
        return (await router.states()).get(server) != "Ready"

    await _until("the router sends nothing there", avoided, pause=0.01)
    return time.monotonic()


async def _told(kube: Kube) -> bool:
    node = await kube.get(OLLAMA_NODE, "node-0", NAMESPACE)
    assert node is not None
    return any(one["state"] != "Ready" for one in node["status"]["servers"])


async def _until(what: str, done: Callable[[], Awaitable[bool]], pause: float = 0.5) -> None:
    deadline = time.monotonic() + WITHIN
    while not await done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not so within {WITHIN:.0f} s")
        await asyncio.sleep(pause)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def more(rows: list[Row]) -> dict[str, float]:
    """How much more each cost grows per server in the last step than in the one before."""
    found = {}
    for name, noise in GROWING.items():
        (n0, c0), (n1, c1), (n2, c2) = (
            (row.servers, float(getattr(row, name))) for row in rows[-3:]
        )
        before, after = (c1 - c0 + noise) / (n1 - n0), (c2 - c1) / (n2 - n1)
        found[name] = 0.0 if after <= 0 else after / before if before > 0 else float("inf")
    return found


def report(rows: list[Row]) -> bool:
    """Print and save the table; whether no cost grows faster than the fleet."""
    sizes = ("servers", "nodes", "distributions", "routers")
    for name in sizes:
        print(f"{name:44}" + "".join(f"{getattr(row, name):10}" for row in rows))
    growth = more(rows) if len(rows) >= 3 else {}
    for name, title in TITLES.items():
        values = "".join(f"{getattr(row, name):10.4g}" for row in rows)
        grows = f"  x{growth[name]:.2f}" if name in growth else ""
        print(f"{title:44}{values}{grows}")
    saved = {
        f"{row.servers} servers, {title}": round(getattr(row, name), 3)
        for row in rows
        for name, title in TITLES.items()
    }
    required = {f"growth per server, {TITLES[name]}": f"at most {MOST}" for name in growth}
    saved |= {f"growth per server, {TITLES[name]}": round(x, 2) for name, x in growth.items()}
    required |= {f"{row.servers} servers, {TITLES['rest_writes']}": "0" for row in rows}
    held = all(x <= MOST for x in growth.values()) and not any(row.rest_writes for row in rows)
    if growth:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(
            json.dumps({"figures": saved, "required": required, "held": held}, indent=2) + "\n"
        )
    return held


def main() -> None:
    wanted = [int(number) for number in sys.argv[1:]]
    rows = []
    for size in SIZES:
        if wanted and size.servers not in wanted:
            continue
        with tempfile.TemporaryDirectory() as name:

            def say(line: str, size: Size = size) -> None:
                print(f"{size.servers} servers, {line}", flush=True)

            try:
                rows.append(asyncio.run(measure(size, Path(name), say)))
            except BaseException:
                for log in Path(name).glob("*.log"):
                    sys.stderr.write(f"{log.name}:\n" + log.read_text()[-3000:])
                raise
    if not report(rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
