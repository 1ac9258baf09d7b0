"""Servers elsewhere that ask for a key and have a certificate of their own authority: the operator
with the rights of the chart, a router with those the operator gives it, a real API server."""

import asyncio
import base64
import gc
import logging
import subprocess
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dev.cluster import Cluster
from dev.ollama import process
from ollama_fleet.api.access import SecretError, SecretRefs
from ollama_fleet.api.conditions import Reason
from ollama_fleet.controllers.context import Settings
from ollama_fleet.controllers.program import Operator, Options
from ollama_fleet.controllers.reconcilers import build
from ollama_fleet.kube import Forbidden, Kind, Kube, Object
from ollama_fleet.kube.access import read_access
from ollama_fleet.kube.kinds import (
    EVENT,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    ROUTER,
    SECRET,
    SERVICE_ACCOUNT,
)
from ollama_fleet.router.config import settings_of
from ollama_fleet.router.discovery import Discovery
from ollama_fleet.router.server import Router
from tests.component.kube.conftest import REPOSITORY, eventually
from tests.component.kube.front import Front

# kopf leaves connections to the garbage collector as it ends
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MODEL, LATER = "llama3.2:1b", "all-minilm"
FIRST, SECOND = "Bearer first-key-of-the-box", "Bearer second-key-of-the-box"
REREAD = 0.2
"""Seconds between looks at Secrets, 30 outside of tests."""


@pytest.fixture
def registry() -> Iterator[str]:
    with process.registry() as (url, _):
        yield url.removeprefix("http://")


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[process.Server]:
    env = {"EMULATOR_TOKENS_PER_SECOND": "1000", "EMULATOR_LOAD_BYTES_PER_SECOND": "100G"}
    with process.server("emulator", tmp_path / "ollama", env) as running:
        yield running


@pytest.fixture
async def front(ollama: process.Server, tmp_path: Path) -> AsyncIterator[Front]:
    (tmp_path / "front").mkdir()
    async with Front(ollama.url, FIRST, tmp_path / "front") as front:
        yield front


class Fleet:
    """One namespace, the operator at work there, and a router called `chat`."""

    def __init__(self, kube: Kube, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.kube = kube
        self.namespace = namespace
        self._cluster = cluster
        self._folder = folder

    async def apply(self, kind: str, name: str, **spec: Any) -> None:
        await self.kube.apply(
            {
                "apiVersion": "ollamafleet.dev/v1alpha1",
                "kind": kind,
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": spec,
            }
        )

    async def secret(self, name: str, **entries: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
        meta = {"name": name, "namespace": self.namespace}
        await self.kube.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}
        )

    async def authority(self, pem: str) -> None:
        await self.secret("box-ca", **{"ca.crt": pem})

    async def says(self, kind: Kind, name: str, reason: str, words: str = "") -> bool:
        """Whether a resource gives that reason, with those words in its message."""
        found = await self.kube.get(kind, name, self.namespace)
        conditions = ((found or {}).get("status") or {}).get("conditions") or [{}]
        ready = conditions[0]
        return ready.get("reason") == reason and words in ready.get("message", "")

    async def router_says(self, words: str) -> bool:
        """Whether the router's message has them, which comes second where no machine takes it."""
        found = await self.kube.get(ROUTER, "chat", self.namespace)
        return words in str(((found or {}).get("status") or {}).get("conditions"))

    async def router_ceased_to_say(self, words: str) -> bool:
        return not await self.router_says(words)

    def will_say(self, kind: Kind, name: str, reason: str, words: str = "") -> Any:
        return eventually(partial(self.says, kind, name, reason, words))

    async def router_account(self) -> Kube:
        """The API server as the router sees it."""
        await eventually(partial(self.kube.get, SERVICE_ACCOUNT, "chat-router", self.namespace))
        path = self._folder / "router"
        if not path.exists():
            self._cluster.token_kubeconfig(self.namespace, "chat-router", path)
        return await Kube.connect(str(path))

    @asynccontextmanager
    async def routing(self) -> AsyncIterator[int]:
        """The port of a router that has its rights from the operator."""
        async with AsyncExitStack() as stack:
            kube = await stack.enter_async_context(await self.router_account())
            router = Router(settings_of({}))
            stack.push_async_callback(router.close)
            discovery = Discovery(kube, router, self.namespace, "chat", REREAD)
            await stack.enter_async_context(beside(discovery.run()))
            yield await router.listen("127.0.0.1", 0)


@pytest.fixture(scope="module")
def roles(cluster: Cluster) -> None:
    """The chart's ClusterRoles."""
    command = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}", "apply", "--server-side"]
    subprocess.run([*command, "-f", str(REPOSITORY / "manifests/clusterroles.yaml")], check=True)


@pytest.fixture
async def fleet(
    kube: Kube,
    cluster: Cluster,
    roles: None,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[Fleet]:
    caplog.set_level(logging.INFO)
    for rights in operator_rights(namespace):
        await kube.apply(rights)
    account = cluster.token_kubeconfig(namespace, "operator", tmp_path / "operator")
    monkeypatch.setenv("KUBECONFIG", str(account))
    settings = Settings(namespace, (namespace,), "ollama-fleet", probe_interval=REREAD)
    operator = Operator(Options("127.0.0.1", 0, leader_elect=False, settings=settings), build)
    running = asyncio.create_task(operator.run())
    yield Fleet(kube, cluster, namespace, tmp_path)
    operator.stop()
    async with asyncio.timeout(4):
        assert await running == 0
    gc.collect()
    for text in (caplog.text, *[str(await kube.list(one, namespace)) for one in TOLD]):
        for key in (FIRST, SECOND):
            assert key.split()[1] not in text


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


TOLD = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER, EVENT)


def operator_rights(namespace: str) -> list[Object]:
    """The account `operator`, with what the chart lets it do in a namespace, and no more."""
    group = "rbac.authorization.k8s.io"
    account = {"name": "operator", "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "operator", "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "ollama-fleet-operator"},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]


async def chat(port: int, key: str = "Bearer of-a-tenant") -> int:
    """The status of a chat; one that is answered says something."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.post(
            f"http://127.0.0.1:{port}/api/chat", json=body, headers={"Authorization": key}
        )
    assert answer.status_code != 200 or answer.json()["message"]["content"]
    return answer.status_code


def external(front: Front) -> dict[str, Any]:
    refs = {"headersSecretRef": {"name": "box"}, "caSecretRef": {"name": "box-ca"}}
    return {"external": {"url": front.url, **refs}, "gpu": {"memory": "24Gi"}}


async def test_probes_pulls_and_chats_show_the_key_and_trust_the_authority(
    fleet: Fleet, front: Front, registry: str
) -> None:
    node = partial(fleet.will_say, OLLAMA_NODE, "box")
    await fleet.apply("OllamaNode", "box", **external(front))
    await fleet.apply("Router", "chat", select={"ollamaNodes": ["box"]})
    source = {"registry": registry, "insecure": True}
    rollout = {"retry": {"backoff": "1s"}}
    wanted = partial(fleet.apply, "ModelDistribution", "box", source=source, rollout=rollout)
    await wanted(models=[{"name": MODEL}])
    async with fleet.routing() as port:

        async def answered(*statuses: int) -> bool:
            return await chat(port) in statuses

        await node("SecretMissing", f"kubectl -n {fleet.namespace} create secret generic box ")
        await fleet.secret("box", Authorization="Bearer of\nold")
        await node("InvalidSecret", "the value of Authorization")
        await fleet.secret("box", Authorization=f"{FIRST}\n")
        await node("SecretMissing", "Secret box-ca does not exist")
        await fleet.secret("box-ca", **{"tls.crt": front.authority})
        await node("InvalidSecret", "Secret box-ca has no ca.crt")
        await fleet.authority("no certificate at all")
        await node("InvalidSecret", "ca.crt is no certificate")
        assert (front.passed, front.refused) == ([], 0)
        await fleet.authority(front.authority)
        await node("Ready")
        await fleet.will_say(MODEL_DISTRIBUTION, "box", "Ready", "1 of 1 installed")
        assert {"/api/version", "/api/pull", "/api/copy"} <= set(front.passed)
        await eventually(partial(answered, 200))
        assert front.refused == 0

        front.key = SECOND
        await node("Unreachable", "Correct the headers in Secret box,")
        assert await chat(port) != 200
        await fleet.secret("box", Authorization=SECOND)
        await node("Ready")
        await eventually(partial(answered, 200))

        front.renew()
        assert await chat(port) != 200
        await fleet.authority(front.authority)
        await eventually(partial(answered, 200))
        await wanted(models=[{"name": MODEL}, {"name": LATER}])
        await fleet.will_say(MODEL_DISTRIBUTION, "box", "Ready", "2 of 2 installed")
        await node("Ready")

        await fleet.kube.delete(SECRET, "box", fleet.namespace)
        await node("SecretMissing")
        await eventually(partial(answered, 404, 503))
        passed = len(front.passed)
        assert await chat(port) != 200
        assert len(front.passed) == passed
    events = [event["reason"] for event in await fleet.kube.list(EVENT, fleet.namespace)]
    assert events.count("SecretMissing") == 3


async def test_a_routers_account_reads_its_secrets_and_no_other(fleet: Fleet, front: Front) -> None:
    await fleet.apply("OllamaNode", "box", **external(front))
    await fleet.apply("Router", "chat", backends=[{"url": "http://a", **ref("backend")}])
    for name in ("box", "box-ca", "backend", "other"):
        await fleet.secret(name, Authorization=FIRST)
    async with await fleet.router_account() as account:

        async def may_read() -> set[str]:
            found = set()
            for name in ("box", "box-ca", "backend", "other"):
                try:
                    await account.get(SECRET, name, fleet.namespace)
                except Forbidden:
                    continue
                found.add(name)
            return found

        async def reads(*names: str) -> bool:
            return await may_read() == set(names)

        await eventually(partial(reads, "box", "box-ca", "backend"))
        for place in (fleet.namespace, "default", None):
            with pytest.raises(Forbidden):
                await account.list(SECRET, place)
        change = {"spec": {"external": {"headersSecretRef": {"name": "other"}}}}
        await fleet.kube.patch(OLLAMA_NODE, "box", fleet.namespace, change)
        await eventually(partial(reads, "other", "box-ca", "backend"))
        await fleet.apply("Router", "chat", select={"ollamaNodes": ["none"]})
        await eventually(reads)


async def test_a_backend_is_shown_its_key(fleet: Fleet, tmp_path: Path) -> None:
    env = {"EMULATOR_MODELS": MODEL, "EMULATOR_TOKENS_PER_SECOND": "1000"}
    with process.server("emulator", tmp_path / "backend", env) as ollama:
        async with Front(ollama.url, FIRST) as front:
            backend = {"url": front.url, "headers": {"authorization": "Bearer x"}, **ref("backend")}
            await fleet.apply("Router", "chat", backends=[backend])
            missing = "Secret backend does not exist"
            await eventually(partial(fleet.router_says, missing))
            async with fleet.routing() as port:

                async def answered(status: int) -> bool:
                    return await chat(port) == status

                await eventually(partial(answered, 404))
                assert (front.passed, front.refused) == ([], 0)
                await fleet.secret("backend", Authorization=FIRST)
                await eventually(partial(answered, 200))
                assert front.refused == 0
            await eventually(partial(fleet.router_ceased_to_say, missing))


async def test_a_backends_authority_is_trusted_and_may_be_renewed(
    fleet: Fleet, tmp_path: Path
) -> None:
    env = {"EMULATOR_MODELS": MODEL, "EMULATOR_TOKENS_PER_SECOND": "1000"}
    (tmp_path / "front").mkdir()
    with process.server("emulator", tmp_path / "backend", env) as ollama:
        async with Front(ollama.url, FIRST, tmp_path / "front") as front:
            backend = {"url": front.url, **ref("backend"), "caSecretRef": {"name": "box-ca"}}
            await fleet.secret("backend", Authorization=FIRST)
            await fleet.authority("no certificate at all")
            await fleet.apply("Router", "chat", backends=[backend])
            invalid = "ca.crt is no certificate"
            await eventually(partial(fleet.router_says, invalid))
            async with fleet.routing() as port:

                async def answered(status: int) -> bool:
                    return await chat(port) == status

                await eventually(partial(answered, 404))
                assert (front.passed, front.refused) == ([], 0)
                await fleet.authority(front.authority)
                await eventually(partial(answered, 200))
                front.renew()
                assert await chat(port) != 200
                await fleet.authority(front.authority)
                await eventually(partial(answered, 200))
                assert front.refused == 0
            await eventually(partial(fleet.router_ceased_to_say, invalid))


async def test_a_secret_that_may_not_be_read_is_said(weak: Path, namespace: str) -> None:
    async with await Kube.connect(str(weak)) as kube:
        with pytest.raises(SecretError, match="grant get on that Secret") as refused:
            await read_access(kube, namespace, SecretRefs(headers="box"))
    assert refused.value.reason == Reason.SECRET_FORBIDDEN


def ref(name: str) -> dict[str, Any]:
    return {"headersSecretRef": {"name": name}}
