"""The fleet that is soaked, and what is done to it, one thing at a time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import httpx2

from dev.cluster import Cluster
from ollama_fleet.kube import Kube, KubeError, Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, POD, ROUTER, SERVICE_ACCOUNT

NAMESPACE, OPERATOR = "soak", "ollama-fleet"
CHAT, EMBED, MORE = "llama3.2:1b", "all-minilm", "qwen3:0.6b"
SERVERS = 3
WITHIN = 300.0
"""Seconds within which the fleet is well again after anything that was done to it."""
_SERVER = {
    "OLLAMA_FLEET_SERVER": "emulator",
    "EMULATOR_TOKENS_PER_SECOND": "60",
    "EMULATOR_ANSWER_TOKENS": "40",
}
_ENV = [{"name": name, "value": value} for name, value in _SERVER.items()]


def objects(key: str) -> list[Object]:
    """The fleet: three servers with two models, and two router replicas that ask for a key."""
    node = {
        "replicas": SERVERS,
        "gpu": {"vendor": "none"},
        "storage": {"size": "1Gi"},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "8Gi"}},
        "server": {"parallel": 16, "maxLoadedModels": 3, "env": _ENV},
    }
    models = [{"name": CHAT, "preload": True}, {"name": EMBED, "preload": True}]
    retry = {"backoff": "1s"}
    router = {
        "replicas": 2,
        "service": {"type": "LoadBalancer"},
        "auth": {"keysSecretRef": {"name": "keys"}},
        "retry": {"attempts": SERVERS},
        "health": {"interval": "1s"},
    }
    return [
        _secret({"first": key}),
        _made("OllamaNode", "a", node),
        _made(
            "ModelDistribution",
            "m",
            {"models": models, "prune": "Unlisted", "rollout": {"retry": retry}},
        ),
        _made("Router", "chat", router),
    ]


def _made(kind: str, name: str, spec: Object) -> Object:
    return {
        "apiVersion": "ollamafleet.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def _secret(keys: dict[str, str]) -> Object:
    entries = {
        name: base64.b64encode(
            f"{{sha256: {hashlib.sha256(key.encode()).hexdigest()}}}".encode()
        ).decode()
        for name, key in keys.items()
    }
    meta = {"name": "keys", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": entries}


class Churn:
    """What happens to a fleet in use. Each waits until the fleet is well again."""

    def __init__(self, cluster: Cluster, kube: Kube, random: Random) -> None:
        self._cluster = cluster
        self._kube = kube
        self._random = random
        self._turn = 0
        self.key = "key-0"
        self.url = ""

    @property
    def lasting(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What leaves the programs running whose memory is followed."""
        return {
            "server killed": self._kill,
            "server restarted": self._restart,
            "server hung": self._hang,
            "servers rolled": self._roll,
            "scaled": self._scale,
            "model added and removed": self._model,
            "keys rotated": self._rotate,
        }

    @property
    def starting(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What starts a program again, whose memory is small afterwards."""
        return {"operator killed": self._kill_operator, "routers rolled": self._roll_routers}

    async def start(self) -> None:
        """Make the fleet, and wait until it serves."""

        async def takes_pods() -> bool:
            return await self._kube.get(SERVICE_ACCOUNT, "default", NAMESPACE) is not None

        await self._until("the namespace takes pods", takes_pods)
        for obj in objects(self.key):
            await self._kube.apply(obj, field_manager="soak")
        await self.well()
        router = await self._kube.get(ROUTER, "chat", NAMESPACE)
        assert router is not None
        self.url = router["status"]["url"]

    async def well(self) -> None:
        """Until every resource says that it is as it is wanted."""
        kinds = ((OLLAMA_NODE, "a"), (MODEL_DISTRIBUTION, "m"), (ROUTER, "chat"))

        async def all_ready() -> bool:
            found = [await self._kube.get(kind, name, NAMESPACE) for kind, name in kinds]
            return all(one is not None and _ready(one) for one in found)

        try:
            await self._until("the fleet is well", all_ready)
        except AssertionError as error:
            found = [await self._kube.get(kind, name, NAMESPACE) for kind, name in kinds]
            told = [((one or {}).get("status") or {}).get("conditions") for one in found]
            raise AssertionError(f"{error}: {told}") from None

    async def pods(self) -> list[Object]:
        """The servers' pods."""
        return await self._kube.list(POD, NAMESPACE, "ollamafleet.dev/ollamanode=a")

    async def _one(self) -> str:
        return str(self._random.choice(await self.pods())["metadata"]["name"])

    async def _kill(self) -> None:
        await self._kill_pod(NAMESPACE, await self._one())
        await self.well()

    async def _kill_pod(self, namespace: str, name: str) -> None:
        before = await self._kube.get(POD, name, namespace)
        self._cluster.kill_pod_process(namespace, name)

        async def restarted() -> bool:
            pod = await self._kube.get(POD, name, namespace)
            return pod is None or _restarts(pod) > _restarts(before)

        await self._until(f"{name} has started again", restarted)

    async def _restart(self) -> None:
        name = await self._one()
        pod = await self._kube.get(POD, name, NAMESPACE)
        await self._kube.delete(POD, name, NAMESPACE)

        async def another() -> bool:
            now = await self._kube.get(POD, name, NAMESPACE)
            return now is not None and now["metadata"]["uid"] != (pod or now)["metadata"]["uid"]

        await self._until(f"{name} is another", another)
        await self.well()

    async def _hang(self) -> None:
        folder = self._cluster.directory / "pods" / f"{NAMESPACE}_{await self._one()}"
        groups = [int(path.read_text()) for path in folder.glob("*.pid")]
        for group in groups:
            os.killpg(group, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._random.uniform(0.5, 5))
        finally:
            for group in groups:
                os.killpg(group, signal.SIGCONT)
        await self.well()

    async def _roll(self) -> None:
        before = {pod["metadata"]["uid"] for pod in await self.pods()}
        self._turn += 1
        env = [*_ENV, {"name": "SOAK_TURN", "value": str(self._turn)}]
        await self._patch(OLLAMA_NODE, "a", {"server": {"env": env}})

        async def rolled() -> bool:
            now = {pod["metadata"]["uid"] for pod in await self.pods()}
            return len(now) == SERVERS and not now & before

        await self._until("every server is another", rolled)
        await self.well()

    async def _scale(self) -> None:
        for count in (SERVERS - 1, SERVERS + 1, SERVERS):
            await self._patch(OLLAMA_NODE, "a", {"replicas": count})

            async def scaled(count: int = count) -> bool:
                return len(await self.pods()) == count

            await self._until(f"there are {count} servers", scaled)
            await self.well()

    async def _model(self) -> None:
        models: list[Any] = [{"name": CHAT, "preload": True}, {"name": EMBED, "preload": True}]
        for listed in ([*models, {"name": MORE}], models):
            await self._patch(MODEL_DISTRIBUTION, "m", {"models": listed})
            await self.well()

    async def _rotate(self) -> None:
        """A new key beside the old one, until every replica knows it; then the old one goes."""
        old, new = self.key, f"key-{self._turn}-{self._random.randrange(10**9)}"
        await self._kube.apply(_secret({"first": old, "second": new}), field_manager="soak")
        await self._until("the new key is known", lambda: self._knows(new))
        self.key = new
        await asyncio.sleep(5)  # no request that shows the old one is still to arrive
        await self._kube.apply(_secret({"first": new}), field_manager="soak")

    async def _knows(self, key: str) -> bool:
        """Whether every replica takes a key: as many times in a row as chance cannot explain."""
        async with httpx2.AsyncClient(base_url=self.url, trust_env=False) as client:
            for _ in range(6):
                headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
                try:
                    answer = await client.get("/api/tags", headers=headers)
                except httpx2.HTTPError:
                    return False
                if answer.status_code != 200:
                    return False
        return True

    async def _kill_operator(self) -> None:
        labels = "app.kubernetes.io/component=operator"
        pods = await self._kube.list(POD, OPERATOR, labels)
        await self._kill_pod(OPERATOR, pods[0]["metadata"]["name"])
        await self.well()

    async def _roll_routers(self) -> None:
        labels = "ollamafleet.dev/router=chat"
        before = {pod["metadata"]["uid"] for pod in await self._kube.list(POD, NAMESPACE, labels)}
        self._turn += 1
        annotations = {"soak/turn": str(self._turn)}
        await self._patch(ROUTER, "chat", {"template": {"annotations": annotations}})

        async def rolled() -> bool:
            pods = await self._kube.list(POD, NAMESPACE, labels)
            return len(pods) == 2 and not before & {pod["metadata"]["uid"] for pod in pods}

        await self._until("every router is another", rolled)
        await self.well()

    async def _patch(self, kind: Any, name: str, spec: Object) -> None:
        await self._kube.patch(kind, name, NAMESPACE, {"spec": spec})

    async def _until(self, what: str, done: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                if await done():
                    return
            except KubeError:
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not so within {WITHIN:.0f} s")
            await asyncio.sleep(0.5)


def _ready(obj: Object) -> bool:
    status = obj.get("status") or {}
    if status.get("observedGeneration") != obj["metadata"]["generation"]:
        return False
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ()
    )


def _restarts(pod: Object | None) -> int:
    containers = ((pod or {}).get("status") or {}).get("containerStatuses") or ()
    return sum(one.get("restartCount", 0) for one in containers)
