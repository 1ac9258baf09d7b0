"""The demo's steps. Each ends in a check: what did not happen ends the demo with the reason."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from dev import chart, fleet
from dev.cluster import DEFAULT_MACHINES, Cluster, Machine
from dev.demo.chats import Answer, ChatFailed, Load, chat, load
from dev.demo.screen import ACCENT, Screen, Stopwatch
from ollama_fleet.kube import Kube, Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, POD, ROUTER

NAMESPACE = "default"
EVERYWHERE = "llama3.2:1b"
"""The sample fleet has this model on every server."""
NEW_MACHINE = Machine("gpu-48g", gpus=1, gpu_memory=48 * 2**30)


class DemoFailed(Exception):  # noqa: N818
    """A step that did not happen, and why."""


@dataclass
class Demo:
    """One run: a cluster in ``directory``, ``streams`` chats at once."""

    screen: Screen
    directory: Path
    streams: int
    url: str = ""
    cluster: Cluster = field(init=False)
    kube: Kube = field(init=False)

    async def run(self, stack: contextlib.AsyncExitStack) -> None:
        """All steps, in order; what is started ends with ``stack``."""
        self.screen.title("ollama-fleet demo")
        await self._cluster(stack)
        await self._operator()
        await self._fleet()
        await self._chat()
        await self._failure()
        await self._growth()

    def say_what_to_try(self) -> None:
        """The lines of a fleet that stays up."""
        kubectl = self.cluster.kubectl
        body = json.dumps({"model": EVERYWHERE, "messages": [{"role": "user", "content": "hi"}]})
        self.screen.blank()
        for text in (
            "The fleet is up. Try, in another terminal:",
            f"  export KUBECONFIG={self.cluster.kubeconfig}",
            f"  {kubectl} get ollama",
            f"  {kubectl} get events.events.k8s.io --watch",
            f"  curl {self.url}/api/chat -d '{body}'",
            "Ctrl-C stops everything.",
        ):
            self.screen.console.print(text, markup=False)

    async def _cluster(self, stack: contextlib.AsyncExitStack) -> None:
        watch = Stopwatch()
        at: dict[str, float] = {}
        models = fleet.prepare(self.directory)
        self.cluster = await asyncio.to_thread(
            Cluster.start,
            self.directory,
            models=models,
            say=self.screen.more,
            on_step=lambda step, seconds: at.update({step: watch.seconds}),
        )
        stack.callback(self.cluster.stop)
        version = self.cluster.state()["kubernetes"]
        self.screen.line(
            "control plane",
            f"Kubernetes {version}: etcd, API server, controllers, scheduler",
            at.get("control plane", watch.seconds),
        )
        machines = ", ".join(machine.name for machine in DEFAULT_MACHINES)
        self.screen.line(
            "machines", f"{machines} (simulated GPUs), {fleet.servers()}", watch.seconds
        )
        form = "real files, no knowledge" if fleet.is_real() else "real sizes, simulated bytes"
        self.screen.line("models", f"stand-ins under the library's names ({form}), pulled locally")
        if not fleet.is_real():
            self.screen.more("for the real Ollama: python -m dev.ollama.binary builds it")
        os.environ["KUBECONFIG"] = str(self.cluster.kubeconfig)
        self.kube = await stack.enter_async_context(await Kube.connect())

    async def _operator(self) -> None:
        watch = Stopwatch()
        done = await asyncio.to_thread(fleet.install, self.cluster, chart.on_path())
        self.screen.line("operator", f"{done}: three kinds, rights, operator", watch.seconds)

    async def _fleet(self) -> None:
        watch = Stopwatch()
        await asyncio.to_thread(fleet.apply_sample, self.cluster, NAMESPACE)
        self.screen.line("fleet", f"kubectl apply -f {fleet.SAMPLE}")
        self.screen.blank()
        with self.screen.pulls() as pulls:

            async def installed() -> bool:
                tasks, status = await self._tasks()
                pulls.show(tasks, await self._memory())
                summary = status.get("summary", {})
                whole = summary.get("desired", 0) >= len(DEFAULT_MACHINES) * 2
                return bool(whole and summary.get("installed") == summary.get("desired"))

            await self._until("the models are not installed", installed, 180, self._why_not_ready)
        self.screen.blank()
        router = await self._ready(ROUTER, "chat", 60)
        self.url = str(router["status"]["url"])
        models = {task["model"] for task in (await self._tasks())[0]}
        await self._until("the router does not offer every model", self._offers(models), 30)
        self.screen.line("router", f"{self.url}  the fleet is ready", watch.seconds)

    async def _chat(self) -> None:
        async with httpx2.AsyncClient(base_url=self.url, timeout=60, trust_env=False) as client:
            answer = Answer()
            console = self.screen.console
            self.screen.line("chat", "> Why is the sky blue?")
            console.print(f"  {'':<17}", end="")
            column = 0
            try:
                async for piece in chat(client, "llama3.1:8b", "Why is the sky blue?", answer):
                    if column + len(piece) > 74 and piece.startswith(" "):
                        console.print(f"\n  {'':<17}", end="")
                        piece, column = piece.lstrip(), 0
                    console.print(piece, end="", style=ACCENT, markup=False)
                    column += len(piece)
            except ChatFailed as error:
                raise DemoFailed(f"the chat failed: {error}") from error
        console.print()
        speed = answer.tokens / max(answer.total - answer.first, 1e-6)
        self.screen.more(f"{answer.server}  first token {answer.first:.2f} s  {speed:.0f} tok/s")

    async def _failure(self) -> None:
        stop = asyncio.Event()
        streams = self.streams
        running = asyncio.create_task(load(self.url, EVERYWHERE, streams, stop, limit=20 * streams))
        await self._until("the load does not reach the servers", self._answered(streams), 60)
        name = await self._busiest()
        victim = await self._pod_of(name)
        retried = await self._metric("ollama_fleet_router_retries_total")
        self.cluster.kill_pod_process(NAMESPACE, victim["metadata"]["name"])
        killed = Stopwatch()
        await self._until(
            "the killed server has not come back", lambda: self._restarted(victim), 120
        )
        back = killed.seconds
        stop.set()
        result = await running
        result.retried = int(await self._metric("ollama_fleet_router_retries_total") - retried)
        if result.failed or result.whole == 0:
            raise DemoFailed(f"the load failed: {_load(result)}; {result.reasons[:3]}")
        self.screen.line("failure", f"killed {name} under {streams} streams: {_load(result)}")
        self.screen.more(f"the server was back by itself in {back:.1f} s")

    async def _growth(self) -> None:
        watch = Stopwatch()
        await asyncio.to_thread(self.cluster.add_machine, NEW_MACHINE)
        name = f"fleet-{NEW_MACHINE.name}"
        await self._until(f"{name} is not ready", lambda: self._server_ready(name), 90)
        ready = watch.seconds
        await self._until(f"{name} has not its models", lambda: self._all_installed(name), 120)
        installed = watch.seconds
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
            client.base_url = httpx2.URL(self.url)

            async def answers() -> bool:
                answers = [Answer() for _ in range(2 * (len(DEFAULT_MACHINES) + 1))]
                await asyncio.gather(*(self._ask(client, answer) for answer in answers))
                return any(answer.server == name for answer in answers)

            await self._until(f"{name} answers no chat", answers, 60)
        self.screen.line(
            "growth",
            f"machine {NEW_MACHINE.name} joined: server Ready {ready:.1f} s, "
            f"models installed {installed:.1f} s, first answer {watch.seconds:.1f} s",
        )

    async def _ask(self, client: httpx2.AsyncClient, answer: Answer) -> None:
        try:
            async for _ in chat(client, EVERYWHERE, "hi", answer):
                pass
        except ChatFailed as error:
            raise DemoFailed(f"the chat after growth failed: {error}") from error

    def _offers(self, models: set[str]) -> Callable[[], Awaitable[bool]]:
        """Whether the router lists these models."""

        async def check() -> bool:
            async with httpx2.AsyncClient(base_url=self.url, trust_env=False) as client:
                listed = (await client.get("/api/tags")).json()["models"]
            return models <= {model["name"] for model in listed}

        return check

    def _answered(self, count: int) -> Callable[[], Awaitable[bool]]:
        """Whether the router has finished that many requests since now."""
        begun: list[float] = []

        async def check() -> bool:
            done = await self._metric("gen_ai_server_request_duration_seconds_count")
            if not begun:
                begun.append(done)
            return done - begun[0] >= count

        return check

    async def _metric(self, name: str) -> float:
        """A metric of the routers, added up over routers and labels."""
        return sum([value for labels, value in await self._samples(name)])

    async def _busiest(self) -> str:
        """The server with the most requests under way."""
        samples = await self._samples("ollama_fleet_router_in_flight")
        if not samples:
            raise DemoFailed("no server is busy, so there is none to kill under load")
        labels, _ = max(samples, key=lambda sample: sample[1])
        return labels["server"]

    async def _samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The samples of one metric, of all routers."""
        found: list[tuple[dict[str, str], float]] = []
        async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
            for pod in await self.kube.list(
                POD, NAMESPACE, label_selector="ollamafleet.dev/router=chat"
            ):
                if address := pod["status"].get("podIP"):
                    text = (await client.get(f"http://{address}:9090/metrics")).text
                    found += [
                        (dict(sample.labels), sample.value)
                        for family in text_string_to_metric_families(text)
                        for sample in family.samples
                        if sample.name == name
                    ]
        return found

    async def _restarted(self, victim: Object) -> bool:
        pod = await self.kube.get(POD, victim["metadata"]["name"], NAMESPACE)
        statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or [{}]
        return bool(statuses[0].get("restartCount")) and bool(statuses[0].get("ready"))

    async def _pod_of(self, server: str) -> Object:
        for pod in await self.kube.list(
            POD, NAMESPACE, label_selector="ollamafleet.dev/ollamanode=fleet"
        ):
            if f"fleet-{pod['spec'].get('nodeName')}" == server:
                return pod
        raise DemoFailed(f"{server} has no pod")

    async def _tasks(self) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
        distribution = await self.kube.get(MODEL_DISTRIBUTION, "base", NAMESPACE) or {}
        status = distribution.get("status") or {}
        return status.get("tasks") or [], status

    async def _memory(self) -> dict[str, str]:
        return {
            server["name"]: str(server.get("memoryTotal", "")).replace("Gi", " GiB")
            for server in await self._servers()
        }

    async def _servers(self) -> list[Mapping[str, Any]]:
        node = await self.kube.get(OLLAMA_NODE, "fleet", NAMESPACE) or {}
        return (node.get("status") or {}).get("servers") or []

    async def _server_ready(self, name: str) -> bool:
        return any(
            server["name"] == name and server["state"] == "Ready"
            for server in await self._servers()
        )

    async def _all_installed(self, server: str) -> bool:
        tasks = [task for task in (await self._tasks())[0] if task["server"] == server]
        return bool(tasks) and all(task["state"] == "Installed" for task in tasks)

    async def _ready(self, kind: Any, name: str, seconds: float) -> Object:
        found: list[Object] = []

        async def ready() -> bool:
            obj = await self.kube.get(kind, name, NAMESPACE)
            if obj is None or _condition(obj, "Ready").get("status") != "True":
                return False
            found.append(obj)
            return True

        await self._until(f"{kind} {name} is not Ready", ready, seconds, self._why_not_ready)
        return found[0]

    async def _why_not_ready(self) -> str:
        told = []
        for kind, name in ((OLLAMA_NODE, "fleet"), (MODEL_DISTRIBUTION, "base"), (ROUTER, "chat")):
            condition = _condition(await self.kube.get(kind, name, NAMESPACE) or {}, "Ready")
            if condition.get("status") != "True":
                told.append(f"{kind} {name}: {condition.get('message') or 'no status yet'}")
        return "; ".join(told)

    async def _until(
        self,
        otherwise: str,
        done: Callable[[], Awaitable[bool]],
        seconds: float,
        why: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        deadline = time.monotonic() + seconds
        while not await done():
            if time.monotonic() > deadline:
                reason = f" ({await why()})" if why else ""
                raise DemoFailed(f"{otherwise} after {seconds:.0f} s{reason}")
            await asyncio.sleep(0.1)


def _condition(obj: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def _load(result: Load) -> str:
    """How a load ended, in one line; failed chats end the demo, so that what is lost was begun."""
    lost = f"{result.lost} lost in mid-answer" if result.lost else "0 lost"
    return f"{result.asked} requests, {lost}, {result.retried} retried"
