"""Objects of Kubernetes become servers; nothing the API server does takes servers away."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from dev.ollama.certificates import server_context
from ollama_fleet.kube.client import Kube
from ollama_fleet.kube.errors import Forbidden, KubeError, Unavailable
from ollama_fleet.kube.kinds import SECRET, Kind, Object
from ollama_fleet.kube.watch import EventType, WatchEvent
from ollama_fleet.router.config import settings_of
from ollama_fleet.router.discovery import Discovery
from ollama_fleet.router.server import Router
from ollama_fleet.router.snapshot import Endpoint, State


class Watches:
    """A Kube whose watches say what the test says."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[WatchEvent]] = {}
        self.secrets: dict[str, dict[str, str] | KubeError] = {}
        self.answers = asyncio.Event()
        self.answers.set()

    async def get(self, kind: Kind, name: str, namespace: str) -> Object | None:
        assert (kind, namespace) == (SECRET, "llm")
        await self.answers.wait()
        found = self.secrets.get(name)
        if isinstance(found, KubeError):
            raise found
        if found is None:
            return None
        data = {key: base64.b64encode(one.encode()).decode() for key, one in found.items()}
        return {"data": data}

    def queue(self, kind: str) -> asyncio.Queue[WatchEvent]:
        return self._queues.setdefault(kind, asyncio.Queue())

    async def watch(
        self, kind: Kind, namespace: str, label: str | None = None
    ) -> AsyncIterator[WatchEvent]:
        assert namespace == "llm"
        replicas = label == "ollamafleet.dev/router=chat"
        while True:
            yield await self.queue("Replica" if replicas else kind.kind).get()


class World:
    """A discovery at work on a router that listens nowhere."""

    def __init__(self) -> None:
        self.watches = Watches()
        self.router = Router(settings_of({}))
        kube = cast(Kube, self.watches)
        discovery = Discovery(kube, self.router, "llm", "chat", secrets_interval=0.01)
        self.task = asyncio.create_task(discovery.run())

    async def say(self, kind: str, obj: Object | None = None, event: EventType = "ADDED") -> None:
        """Have a watch tell of `obj`, or that it has told all there was."""
        self.watches.queue(kind).put_nowait(
            WatchEvent("SYNCED") if obj is None else WatchEvent(event, obj)
        )
        for _ in range(5):
            await asyncio.sleep(0)

    async def synced(self) -> None:
        for kind in ("Router", "OllamaNode", "Pod"):
            await self.say(kind)

    @property
    def servers(self) -> dict[str, Endpoint]:
        return {one.name: one.endpoint for one in self.router.fleet.snapshot.servers}

    @property
    def replicas(self) -> set[tuple[str, int]]:
        return set(self.router.replicas._peers)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))
        await self.router.close()


def router(spec: Object | None = None, generation: int = 1) -> Object:
    return {"metadata": {"name": "chat", "generation": generation}, "spec": spec or {}}


def ollamanode(name: str, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec or {"replicas": 1}}


def pod(
    name: str,
    of: str,
    *,
    ready: bool = True,
    containers: bool | None = None,
    ip: str = "127.9.9.9",
    **meta: Any,
) -> Object:
    labels = {"ollamafleet.dev/ollamanode": of, **meta.pop("labels", {})}
    said = (
        {"Ready": ready} if containers is None else {"Ready": ready, "ContainersReady": containers}
    )
    return {
        "metadata": {"name": name, "labels": labels, **meta},
        "spec": {"nodeName": "gpu-24g"},
        "status": {
            "podIP": ip,
            "conditions": [{"type": kind, "status": str(one)} for kind, one in said.items()],
        },
    }


async def test_pods_become_servers() -> None:
    world = World()
    assert world.router._not_ready() == "waiting for the API server"
    await world.say("Router", router())
    server = {"parallel": 4}
    await world.say("OllamaNode", ollamanode("a", replicas=2, weight=50, server=server))
    await world.say("OllamaNode", ollamanode("d", perNode={}))
    await world.say("Pod", pod("a-0", "a"))
    await world.say("Pod", pod("d-x7k", "d"))
    await world.say("Pod", pod("stranger", "nobody"))
    await world.say("Pod", {**pod("a-1", "a"), "status": {}})
    assert not world.servers  # half a picture would look like servers that went
    await world.synced()
    assert set(world.servers) == {"a-0", "d-gpu-24g"}
    one = world.servers["a-0"]
    assert (one.host, one.port, one.weight, one.parallel, one.held) == (
        "127.9.9.9", 11434, 50, 4, None,
    )  # fmt: skip
    await world.close()


async def test_what_kubernetes_says_of_a_server() -> None:
    world = World()
    await world.say("Router", router())
    await world.say("OllamaNode", ollamanode("a"))
    await world.synced()
    for changed, held in (
        (pod("a-0", "a", ready=False), State.STARTING),
        (pod("a-0", "a", ready=False, containers=False), State.STARTING),
        # its kubelet is not heard
        (pod("a-0", "a", ready=False, containers=True), None),
        (pod("a-0", "a"), None),
        (pod("a-0", "a", labels={"ollamafleet.dev/draining": "true"}), State.DRAINING),
        (pod("a-0", "a", deletionTimestamp="2026-03-01T00:00:00Z"), State.DRAINING),
    ):
        await world.say("Pod", changed, "MODIFIED")
        assert world.servers["a-0"].held is held
    await world.say("Pod", pod("a-0", "a"), "MODIFIED")
    await world.say("OllamaNode", ollamanode("a", replicas=1, cordoned=True), "MODIFIED")
    assert world.servers["a-0"].held is State.DRAINING
    await world.say("Pod", pod("a-0", "a"), "DELETED")
    assert not world.servers
    await world.close()


async def test_a_server_with_something_new_is_asked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    asked: list[str] = []
    monkeypatch.setattr(world.router.prober, "poke", asked.append)

    def told(installed: int, seen: str) -> Object:
        server = {"name": "a-0", "installed": installed, "lastSeen": seen}
        return {**ollamanode("a"), "status": {"servers": [server]}}

    await world.say("Router", router())
    await world.say("OllamaNode", told(0, "12:00"))
    await world.synced()
    await world.say("OllamaNode", told(0, "12:05"), "MODIFIED")
    assert asked == []
    await world.say("OllamaNode", told(1, "12:05"), "MODIFIED")
    assert asked == ["a-0"]
    await world.close()


async def test_selection_externals_and_backends() -> None:
    world = World()
    spec = {
        "select": {"selector": {"matchLabels": {"tier": "gold"}}},
        "backends": [{"url": "http://box:1"}],
    }
    await world.say("Router", router(spec))
    await world.say("OllamaNode", ollamanode("a", {"tier": "gold"}))
    await world.say("OllamaNode", ollamanode("b"))
    external = {"url": "http://gpu-box.lan:11434/"}
    await world.say("OllamaNode", ollamanode("e", {"tier": "gold"}, external=external))
    await world.say("Pod", pod("a-0", "a"))
    await world.say("Pod", pod("b-0", "b"))
    await world.synced()
    assert set(world.servers) == {"a-0", "e", "box:1"}
    assert world.servers["e"].url == "http://gpu-box.lan:11434"
    await world.say("Router", router({"select": {"ollamaNodes": ["b"]}}, 2), "MODIFIED")
    assert set(world.servers) == {"b-0"}
    await world.close()


def box(url: str = "https://127.0.0.1:9", **secrets: str) -> Object:
    refs = {f"{field}SecretRef": {"name": name} for field, name in secrets.items()}
    return ollamanode("box", external={"url": url, **refs})


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nobody could tell us
            await asyncio.sleep(0.005)


async def test_a_server_is_reached_by_what_its_secrets_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    secrets = world.watches.secrets
    server_context("localhost", tmp_path)
    pem = (tmp_path / "ca.pem").read_text()
    await world.say("Router", router())
    await world.say("OllamaNode", box(headers="key", ca="ca"))
    await world.synced()
    await until(lambda: not world.router.waiting_for)
    assert not world.servers
    secrets["key"] = {"Authorization": "Bearer first"}
    await until(lambda: "Secret ca does not exist" in caplog.text)
    assert not world.servers
    secrets["ca"] = {"ca.crt": pem}
    await until(lambda: world.servers)
    assert dict(world.servers["box"].headers) == {b"authorization": b"Bearer first"}
    assert world.servers["box"].ca == pem
    secrets["key"] = {"Authorization": "Bearer second"}
    await until(lambda: world.servers["box"].headers[0][1] == b"Bearer second")
    secrets["key"] = Unavailable(0, "", "the API server is away")
    await until(lambda: "is away" in caplog.text)
    assert world.servers
    secrets["key"] = Forbidden(403, "", "it is forbidden")
    await until(lambda: "it is forbidden" in caplog.text)
    assert world.servers
    secrets["key"] = {"Authorization": "Bearer\nthird"}
    await until(lambda: not world.servers)
    secrets["key"] = {"Authorization": "Bearer fourth"}
    await until(lambda: world.servers)
    del secrets["key"]
    await until(lambda: not world.servers)
    await world.say("OllamaNode", box(), "MODIFIED")
    assert not world.servers["box"].headers
    await world.close()
    for words, times in (("Secret ca does not", 1), ("is away", 1), ("first", 0), ("third", 0)):
        assert caplog.text.count(words) == times


async def test_nothing_is_offered_before_secrets_were_looked_for() -> None:
    world = World()
    world.watches.answers.clear()
    world.watches.secrets = {"key": {"Authorization": "Bearer s"}}
    await world.say("Router", router())
    await world.say("OllamaNode", box(headers="key"))
    await world.synced()
    assert world.router._not_ready() == "waiting for the Secrets of its servers"
    world.watches.answers.set()
    await until(lambda: world.servers)
    assert not world.router.waiting_for
    await world.close()


async def test_a_backends_secret_wins_over_its_headers() -> None:
    world = World()
    world.watches.secrets = {"key": {"Authorization": "Bearer s"}}
    headers = {"authorization": "Bearer of the spec", "X-Team": "ml"}
    backend = {"url": "http://b:1", "headers": headers, "headersSecretRef": {"name": "key"}}
    await world.say("Router", router({"backends": [backend, {"url": "http://c:1"}]}))
    await world.synced()
    await until(lambda: world.servers)
    own = {(b"authorization", b"Bearer s"), (b"x-team", b"ml")}
    assert set(world.servers["b:1"].headers) == own
    assert world.servers["c:1"].headers == ()
    await world.close()


async def test_a_backend_is_trusted_by_the_authority_of_its_secret(tmp_path: Path) -> None:
    server_context("localhost", tmp_path)
    pem = (tmp_path / "ca.pem").read_text()
    world = World()
    backend = {"url": "https://b:1", "caSecretRef": {"name": "ca"}}
    await world.say("Router", router({"backends": [backend, {"url": "https://c:1"}]}))
    await world.synced()
    await until(lambda: world.servers)
    assert set(world.servers) == {"c:1"}
    assert world.servers["c:1"].ca is None
    world.watches.secrets = {"ca": {"ca.crt": pem}}
    await until(lambda: "b:1" in world.servers)
    assert world.servers["b:1"].ca == pem
    renewed = f"# renewed\n{pem}"
    world.watches.secrets = {"ca": {"ca.crt": renewed}}
    await until(lambda: world.servers["b:1"].ca == renewed)
    await world.close()


async def test_settings_follow_the_router() -> None:
    world = World()
    await world.say("Router", router({"retry": {"attempts": 4}}))
    await world.synced()
    assert world.router.relay.settings.attempts == 4
    await world.say("Router", router({"retry": {"attempts": 0}}, 2), "MODIFIED")
    assert world.router.relay.settings.attempts == 4  # the last good ones
    await world.say("Router", router({"retry": {"attempts": 5}}, 3), "MODIFIED")
    assert world.router.relay.settings.attempts == 5
    await world.close()


async def test_a_router_that_is_not_there() -> None:
    world = World()
    await world.synced()
    assert world.router._not_ready() == "waiting for Router llm/chat"
    await world.say("Router", router())
    await world.say("OllamaNode", ollamanode("a"))
    await world.say("Pod", pod("a-0", "a"))
    assert world.servers
    await world.say("Router", router(), "DELETED")
    assert world.servers  # until our own pod goes too
    await world.close()


async def test_pins_hold_on_the_servers_they_are_told_for() -> None:
    world = World()
    await world.say("Router", router())
    told = [
        {"model": "m:latest", "digest": "sha256:aa"},
        {"model": "n:latest", "digest": "sha256:bb", "servers": ["a-1"]},
    ]
    await world.say("OllamaNode", {**ollamanode("a", replicas=2), "status": {"pins": told}})
    await world.say("Pod", pod("a-0", "a"))
    await world.say("Pod", pod("a-1", "a", ip="127.9.9.8"))
    await world.synced()
    assert dict(world.servers["a-0"].pins) == {"m:latest": "sha256:aa"}
    assert dict(world.servers["a-1"].pins) == {"m:latest": "sha256:aa", "n:latest": "sha256:bb"}
    await world.say("OllamaNode", ollamanode("a", replicas=2), "MODIFIED")
    assert world.servers["a-1"].pins == ()
    await world.close()


def router_pod(name: str, ip: str | None, phase: str = "Running") -> Object:
    ports = [{"name": "http", "containerPort": 11434}, {"name": "metrics", "containerPort": 9090}]
    return {
        "metadata": {"name": name, "labels": {"ollamafleet.dev/router": "chat"}},
        "spec": {"containers": [{"name": "injected"}, {"name": "router", "ports": ports}]},
        "status": {"phase": phase} | ({"podIP": ip} if ip else {}),
    }


async def test_the_other_pods_of_the_router_are_asked_for_their_counts() -> None:
    world = World()
    await world.say("Replica", router_pod("chat-1", "127.9.9.1"))
    await world.say("Replica", router_pod("chat-2", None, "Pending"))
    await world.say("Replica")
    assert world.replicas == {("127.9.9.1", 9090)}
    await world.say("Replica", router_pod("chat-2", "127.9.9.2"), "MODIFIED")
    assert world.replicas == {("127.9.9.1", 9090), ("127.9.9.2", 9090)}
    await world.say("Replica", router_pod("chat-1", "127.9.9.1", "Failed"), "MODIFIED")
    await world.say("Replica", router_pod("chat-2", "127.9.9.2"), "DELETED")
    assert world.replicas == set()
    await world.close()


async def test_one_pod_of_a_thousand_has_only_its_ollamanode_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    await world.say("Router", router())
    for number in range(50):
        await world.say("OllamaNode", ollamanode(f"n{number}"))
        for server in range(20):
            ip = f"127.9.{number}.{server}"
            await world.say("Pod", pod(f"n{number}-{server}", f"n{number}", ip=ip))
    await world.synced()
    assert len(world.servers) == 1000
    looked: list[str] = []
    own = Discovery._own

    def looking(self: Discovery, ollamanode: str, spec: Any) -> Any:
        looked.append(ollamanode)
        return own(self, ollamanode, spec)

    monkeypatch.setattr(Discovery, "_own", looking)
    await world.say("Pod", pod("n7-3", "n7", ready=False, ip="127.9.7.3"), "MODIFIED")
    assert world.servers["n7-3"].held is State.STARTING
    await world.say("Pod", pod("n8-3", "n8"), "DELETED")
    assert "n8-3" not in world.servers
    # a pod that changes hands leaves one OllamaNode and comes to the other
    await world.say("Pod", pod("n9-3", "n10", ip="127.9.9.3"), "MODIFIED")
    assert sorted(looked) == ["n10", "n7", "n8", "n9"]
    await world.close()
