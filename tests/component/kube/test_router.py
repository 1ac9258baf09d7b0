"""The router's discovery, fed by a real API server, with an emulated Ollama behind a pod's IP."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from dev.ollama import process
from ollama_fleet.kube import Kube, Object
from ollama_fleet.kube.kinds import OLLAMA_NODE, POD
from ollama_fleet.router.config import settings_of
from ollama_fleet.router.discovery import Discovery
from ollama_fleet.router.server import Router
from ollama_fleet.router.snapshot import State
from tests.component.kube.conftest import eventually, ollama_node
from tests.component.kube.proxy import Proxy

POD_IP = "127.77.4.1"


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[process.Server]:
    env = {"OLLAMA_HOST": f"{POD_IP}:11434", "EMULATOR_MODELS": "llama3.2:1b"}
    with process.server("emulator", tmp_path / "ollama", env) as running:
        yield running


@asynccontextmanager
async def routing(kube: Kube, namespace: str) -> AsyncIterator[Router]:
    router = Router(settings_of({"health": {"interval": "30s"}}))
    task = asyncio.create_task(Discovery(kube, router, namespace, "chat").run())
    try:
        yield router
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await router.close()


def state(router: Router) -> State | None:
    return next((server.state for server in router.fleet.snapshot.servers), None)


def pod(namespace: str) -> Object:
    labels = {"ollamafleet.dev/ollamanode": "a"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a-0", "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "ollama", "image": "ollama/ollama"}]},
    }


async def set_ready(kube: Kube, namespace: str, status: str) -> None:
    condition = {"type": "Ready", "status": status}
    change = {"status": {"podIP": POD_IP, "conditions": [condition]}}
    await kube.patch(POD, "a-0", namespace, change, "status")


async def test_a_pod_serves_as_soon_as_it_is_ready_and_while_the_api_server_is_away(
    kube: Kube,
    namespace: str,
    proxy: Proxy,
    proxied: Path,
    ollama: process.Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        await Kube.connect(str(proxied)) as through_proxy,
        routing(through_proxy, namespace) as router,
    ):
        await eventually(lambda: router.waiting_for == f"Router {namespace}/chat")
        await kube.apply(
            {
                "apiVersion": "ollamafleet.dev/v1alpha1",
                "kind": "Router",
                "metadata": {"name": "chat", "namespace": namespace},
                "spec": {"health": {"interval": "30s"}},
            }
        )
        await kube.apply(ollama_node("a", namespace))
        await eventually(lambda: not router.waiting_for)
        assert state(router) is None
        await kube.apply(pod(namespace))
        await set_ready(kube, namespace, "False")
        await eventually(lambda: state(router) is State.STARTING)
        loop = asyncio.get_running_loop()
        before = loop.time()
        await set_ready(kube, namespace, "True")
        # Far sooner than any period: the watch tells, and a probe follows at once.
        await eventually(lambda: state(router) is State.READY, 5)
        print(f"ready after {1000 * (loop.time() - before):.0f} ms")
        assert "llama3.2:1b" in router.fleet.snapshot.holders

        await proxy.cut()
        await kube.patch(OLLAMA_NODE, "a", namespace, {"spec": {"cordoned": True}})
        await eventually(lambda: caplog.text.count("; retrying") >= 3)
        assert state(router) is State.READY


async def test_a_cordoned_server_drains(kube: Kube, namespace: str, ollama: process.Server) -> None:
    await kube.apply(
        {
            "apiVersion": "ollamafleet.dev/v1alpha1",
            "kind": "Router",
            "metadata": {"name": "chat", "namespace": namespace},
            "spec": {},
        }
    )
    await kube.apply(ollama_node("a", namespace))
    await kube.apply(pod(namespace))
    await set_ready(kube, namespace, "True")
    async with routing(kube, namespace) as router:
        await eventually(lambda: state(router) is State.READY)
        await kube.patch(OLLAMA_NODE, "a", namespace, {"spec": {"cordoned": True}})
        await eventually(lambda: state(router) is State.DRAINING)
        await kube.patch(OLLAMA_NODE, "a", namespace, {"spec": {"cordoned": False}})
        await eventually(lambda: state(router) is State.READY)
        await kube.delete(POD, "a-0", namespace, grace_seconds=0)
        await eventually(lambda: state(router) is None)
        assert router.fleet.expects("llama3.2:1b")
