"""What a fleet costs as it grows from 10 to 1,000 servers: `make bench-scale`.

A real API server, scheduler and controllers; the machines run nothing, and one process answers for
all servers. The operator and a router's replica are processes of their own, with the rights of
those that are installed. Costs that grow faster than the fleet fail the bench.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.scale.costs import Audit, Calls, cpu, rss
from benchmarks.scale.fleet import ADDED, NAMESPACE, OURS, Size, ready
from benchmarks.scale.growth import Row, report
from benchmarks.scale.processes import OPERATOR, Operator, Replica
from dev.cluster import Cluster
from dev.fleet import kubectl
from ollama_fleet.kube import Kube, KubeError
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, NODE, OLLAMA_NODE

SIZES = (Size(10, 1, 2, 1), Size(100, 5, 10, 2), Size(1000, 50, 100, 10))
REST = 120.0
"""Seconds for which a fleet at rest is watched."""
QUIET = 6.0
"""Seconds without a write after which nothing more is expected of a change."""
SETTLE = 36.0
"""Seconds until a fleet whose last change is over is at rest: servers are probed, and routers asked
what is under way, every 30 s, and what either says first is news."""
WITHIN = 900.0
_INSTALLED = ("namespace", "crds", "serviceaccount", "clusterroles", "bindings", "leader")


class Ground:
    """A cluster with machines that run nothing, and the parts under test."""

    def __init__(self, cluster: Cluster, kube: Kube, folder: Path, machines: Any) -> None:
        self.kube = kube
        self.cluster = cluster
        self.folder = folder
        self._machines = machines
        log = cluster.directory / "logs" / "audit.log"
        self.audit = Audit(log, f"{OPERATOR}:{OPERATOR}")
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
        stack.push_async_callback(operator.kill)
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
        stack.push_async_callback(router.kill)
        await _until("the router knows all servers", lambda: _knows(router, size.servers))
        row.router_start_cpu = cpu(router.pid)
        await asyncio.sleep(SETTLE)
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
    await operator.kill()
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
