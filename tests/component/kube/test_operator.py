import asyncio
import itertools
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dev.cluster import Cluster
from ollama_fleet.controllers.context import Context, Reconcilers, Settings
from ollama_fleet.controllers.feed import Feed
from ollama_fleet.controllers.loop import Result
from ollama_fleet.controllers.program import Operator, Options
from ollama_fleet.kube import Kube, Object
from ollama_fleet.kube.kinds import (
    LEASE,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    POD,
    ROUTER,
    SERVICE_ACCOUNT,
)
from tests.component.kube.conftest import eventually, ollama_node
from tests.component.kube.proxy import Proxy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Fleet:
    """The smallest operator: a service account for each OllamaNode."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.context: Context | None = None

    def build(self, context: Context) -> Reconcilers:
        self.context = context

        async def node(namespace: str, name: str) -> Result:
            self.runs.append(f"{namespace}/{name}")
            owner = context.store.get(OLLAMA_NODE, namespace, name)
            child = context.store.get(SERVICE_ACCOUNT, namespace, name)
            if owner is not None and child is None:
                context.store.put(await context.kube.apply(child_of(owner)))
            return Result()

        async def other(namespace: str, name: str) -> Result:
            return Result()

        return {OLLAMA_NODE: node, MODEL_DISTRIBUTION: other, ROUTER: other}


def child_of(owner: Object) -> Object:
    meta = owner["metadata"]
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": {"app.kubernetes.io/managed-by": "ollama-fleet"},
            "ownerReferences": [reference],
        },
    }


@asynccontextmanager
async def operating(
    kubeconfig: Path,
    monkeypatch: pytest.MonkeyPatch,
    namespace: str,
    fleet: Fleet | None = None,
    scope: tuple[str, ...] = (),
    leader_elect: bool = False,
    port: int = 0,
    resync_interval: float = 300.0,
) -> AsyncIterator[tuple[Fleet, "asyncio.Task[int]"]]:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    fleet = fleet or Fleet()
    settings = Settings(namespace, namespaces=scope, resync_interval=resync_interval)
    options = Options("127.0.0.1", port, leader_elect, "tester", settings)
    operator = Operator(options, fleet.build)
    task = asyncio.create_task(operator.run())
    try:
        yield fleet, task
    finally:
        operator.stop()
        async with asyncio.timeout(4):
            await task


async def child(kube: Kube, namespace: str, name: str) -> Object | None:
    return await kube.get(SERVICE_ACCOUNT, name, namespace)


async def test_creates_and_repairs(
    kube: Kube, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_fleet.controllers.feed.FIRST_INTERVAL", 1000.0)
    await kube.create(ollama_node("a", namespace))
    async with operating(cluster.kubeconfig, monkeypatch, namespace) as (fleet, _):
        made = await eventually(lambda: child(kube, namespace, "a"))
        before = len(fleet.runs)

        async def watched() -> bool:
            touch = {"metadata": {"annotations": {"touched": str(len(fleet.runs))}}}
            await kube.patch(SERVICE_ACCOUNT, "a", namespace, touch)
            return len(fleet.runs) > before + 1

        await eventually(watched)
        await kube.delete(SERVICE_ACCOUNT, "a", namespace)

        async def repaired() -> bool:
            now = await child(kube, namespace, "a")
            return now is not None and now["metadata"]["uid"] != made["metadata"]["uid"]

        await eventually(repaired)


async def test_what_the_watches_missed_the_lists_find(
    kube: Kube, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(self: Feed, obj: Object) -> None:
        """As a watch that has died without a word."""

    monkeypatch.setattr(Feed, "changed", deaf)
    monkeypatch.setattr(Feed, "deleted", deaf)
    port = free_port()
    async with operating(
        cluster.kubeconfig, monkeypatch, namespace, port=port, resync_interval=0.2
    ):
        await kube.create(ollama_node("a", namespace))
        await eventually(lambda: child(kube, namespace, "a"))
        await kube.delete(SERVICE_ACCOUNT, "a", namespace)
        await eventually(lambda: child(kube, namespace, "a"))
        numbers = itertools.count()

        async def sick() -> bool:
            await kube.patch(OLLAMA_NODE, "a", namespace, {"spec": {"weight": next(numbers) % 99}})
            status, text = await ask(port, "/healthz")
            return status == 503 and "ollamanodes" in text

        await eventually(sick)


async def test_kopf_writes_nothing(
    kube: Kube, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operating(cluster.kubeconfig, monkeypatch, namespace):
        created = await kube.create(ollama_node("a", namespace))
        made = await eventually(lambda: child(kube, namespace, "a"))
        changed = await kube.patch(OLLAMA_NODE, "a", namespace, {"spec": {"weight": 7}})
        await kube.create(ollama_node("b", namespace))
        await eventually(lambda: child(kube, namespace, "b"))
    now = await kube.get(OLLAMA_NODE, "a", namespace)
    assert now == changed
    assert "finalizers" not in now["metadata"]
    assert "annotations" not in now["metadata"]
    assert now["metadata"]["uid"] == created["metadata"]["uid"]
    assert await child(kube, namespace, "a") == made
    assert await kube.list(LEASE, namespace) == []
    # Nothing held the deletion back, and nobody is there now who could let it go.
    assert await kube.delete(OLLAMA_NODE, "a", namespace)
    assert await kube.get(OLLAMA_NODE, "a", namespace) is None


async def test_a_ghost_is_pruned_and_its_owner_reconciled(
    kube: Kube, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kube.create(ollama_node("a", namespace))
    monkeypatch.setattr("ollama_fleet.controllers.feed.FIRST_INTERVAL", 1.0)
    async with operating(cluster.kubeconfig, monkeypatch, namespace) as (fleet, _):
        await eventually(lambda: child(kube, namespace, "a"))
        assert fleet.context is not None
        store = fleet.context.store
        ghost = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "a-0",
                "namespace": namespace,
                "uid": "ghost",
                "resourceVersion": "1",
                "labels": {"ollamafleet.dev/ollamanode": "a"},
            },
        }
        store.put(ghost)
        assert store.list(POD, namespace)
        await eventually(lambda: not store.list(POD, namespace))


async def test_it_serves_the_namespaces_it_is_given_with_the_rights_of_those_alone(
    kube: Kube,
    cluster: Cluster,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    elsewhere = f"{namespace}-elsewhere"
    await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": elsewhere}})
    for rights in rights_in(namespace):
        await kube.apply(rights)
    limited = cluster.token_kubeconfig(namespace, "operator", tmp_path / "limited")
    for place in (namespace, elsewhere):
        await kube.create(ollama_node("early", place))
    async with operating(limited, monkeypatch, namespace, scope=(namespace,)) as (fleet, task):
        await eventually(lambda: child(kube, namespace, "early"))
        for place in (elsewhere, namespace):
            await kube.create(ollama_node("late", place))
        await eventually(lambda: child(kube, namespace, "late"))
        assert not task.done()
    assert {run.split("/")[0] for run in fleet.runs} == {namespace}


def rights_in(namespace: str) -> list[Object]:
    """A service account `operator` that may do everything in one namespace, and nothing else."""
    meta = {"name": "operator", "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": [everything]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
    ]


async def ask(port: int, path: str) -> tuple[int, str]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        try:
            answer = await client.get(f"http://127.0.0.1:{port}{path}")
        except httpx2.TransportError as error:
            return 0, str(error)
        return answer.status_code, answer.text


async def test_it_waits_for_the_api_server_and_says_so(
    proxied: Path, proxy: Proxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    await proxy.cut()
    async with operating(proxied, monkeypatch, namespace, port=port):

        async def waiting() -> bool:
            status, text = await ask(port, "/readyz")
            return status == 503 and f"https://127.0.0.1:{proxy.port}" in text

        await eventually(waiting)
        assert (await ask(port, "/healthz"))[0] == 200
        await proxy.resume()

        async def ready() -> bool:
            return (await ask(port, "/readyz"))[0] == 200

        await eventually(ready)


async def test_it_reconciles_again_after_the_api_server_was_away(
    kube: Kube, proxied: Path, proxy: Proxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kube.create(ollama_node("a", namespace))
    async with operating(proxied, monkeypatch, namespace) as (_, task):
        await eventually(lambda: child(kube, namespace, "a"))
        await proxy.cut()
        await kube.create(ollama_node("b", namespace))
        await proxy.resume()
        await eventually(lambda: child(kube, namespace, "b"))
        assert not task.done()


async def test_metrics(
    kube: Kube, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    await kube.create(ollama_node("a", namespace))
    async with operating(cluster.kubeconfig, monkeypatch, namespace, leader_elect=True, port=port):
        await eventually(lambda: child(kube, namespace, "a"))
        _, text = await ask(port, "/metrics")
    assert "ollama_fleet_leader 1.0" in text
    counted = re.search(
        r'reconcile_duration_seconds_count\{kind="OllamaNode",result="ok"\} (\S+)', text
    )
    assert counted is not None
    assert float(counted[1]) >= 1


class Command:
    """The real command, in its own process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *arguments: str, **environment: str) -> "Command":
        program = Path(sys.executable).with_name("ollama-fleet-operator")
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        process = await asyncio.create_subprocess_exec(
            str(program),
            "--host=127.0.0.1",
            *arguments,
            env={"HOME": "/nonexistent", **kept, **environment},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def end(self, within: float = 20.0) -> tuple[int, str]:
        """The exit code and all that was logged."""
        async with asyncio.timeout(within):
            _, text = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, text.decode()


async def test_sigterm_ends_it_soon_and_gives_the_lease_back(
    kube: Kube, cluster: Cluster, namespace: str
) -> None:
    port = free_port()
    command = await Command.start(
        f"--port={port}",
        f"--own-namespace={namespace}",
        f"--namespace={namespace}",
        KUBECONFIG=str(cluster.kubeconfig),
    )

    async def leads() -> bool:
        found = await kube.get(LEASE, "ollama-fleet-operator", namespace)
        return (
            bool(found and found["spec"]["holderIdentity"])
            and "leader 1.0" in (await ask(port, "/metrics"))[1]
        )

    await eventually(leads)
    command.process.send_signal(signal.SIGTERM)
    code, text = await command.end(within=2.0)
    assert code == 0, text
    assert "Traceback" not in text
    found = await kube.get(LEASE, "ollama-fleet-operator", namespace)
    assert found is not None
    assert not found["spec"].get("holderIdentity")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "set KUBECONFIG"),
        ({"KUBECONFIG": "/nonexistent/config"}, "/nonexistent/config does not exist"),
    ],
)
async def test_without_a_kubeconfig_it_says_what_to_do(
    environment: dict[str, Any], says: str
) -> None:
    command = await Command.start("--port=0", "--log-format=text", **environment)
    code, text = await command.end()
    assert code == 1
    (line,) = text.splitlines()
    assert says in line


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = await Command.start(f"--port={port}", "--log-format=text")
        code, text = await command.end()
    assert code == 1
    (line,) = text.splitlines()
    assert f"port {port}" in line
    assert "choose another" in line


async def test_sigterm_ends_it_while_it_waits(proxied: Path, proxy: Proxy) -> None:
    await proxy.cut()
    port = free_port()
    command = await Command.start(f"--port={port}", "--log-format=text", KUBECONFIG=str(proxied))

    async def up() -> bool:
        return (await ask(port, "/readyz"))[0] == 503

    await eventually(up)
    command.process.send_signal(signal.SIGTERM)
    code, text = await command.end(within=2.0)
    assert code == 0, text
    assert "Traceback" not in text


async def test_the_next_leads_when_the_leader_goes(
    kube: Kube, cluster: Cluster, namespace: str
) -> None:
    async def holder() -> str:
        found = await kube.get(LEASE, "ollama-fleet-operator", namespace)
        return (found and found["spec"].get("holderIdentity")) or ""

    async def start() -> tuple[Command, int]:
        port = free_port()
        command = await Command.start(
            f"--port={port}",
            f"--own-namespace={namespace}",
            f"--namespace={namespace}",
            KUBECONFIG=str(cluster.kubeconfig),
        )
        return command, port

    one, _ = await start()
    first = await eventually(holder)
    two, port = await start()

    async def stands_by() -> bool:
        return (await ask(port, "/readyz"))[0] == 200

    await eventually(stands_by)
    assert await holder() == first
    one.process.terminate()
    assert (await one.end())[0] == 0

    async def taken_over() -> bool:
        return await holder() not in ("", first)

    await eventually(taken_over, within=6)
    await kube.patch(
        LEASE, "ollama-fleet-operator", namespace, {"spec": {"holderIdentity": "usurper"}}
    )
    code, text = await two.end()
    assert code == 1
    assert "no longer the leader" in text
    assert "Traceback" not in text
