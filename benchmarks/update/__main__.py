"""What clients notice while servers are updated, removed and moved: `make bench-update`.

Three emulated servers on four simulated GPU machines of a real Kubernetes, 50 streamed chats at
once through the router: an update of the servers' settings, a scale-down and back, a machine that
is emptied. Nothing is kept on disk, so every new pod pulls its model again before it is loaded.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev import fleet
from dev.cluster import DEFAULT_MACHINES, Cluster, Machine
from dev.demo.chats import Load, load

STREAMS = 50
SERVERS = 3
MODEL = "llama3.2:1b"
MOST_REQUESTS = 20_000
WITHIN = 180.0
RESULT = Path(__file__).parents[1] / "results" / "update.json"

_SERVER = {
    "OLLAMA_FLEET_SERVER": "emulator",
    "EMULATOR_TOKENS_PER_SECOND": "20",
    "EMULATOR_ANSWER_TOKENS": "40",
}
_FLEET: list[dict[str, Any]] = [
    {
        "kind": "OllamaNode",
        "metadata": {"name": "a"},
        "spec": {
            "replicas": SERVERS,
            "gpu": {"vendor": "nvidia"},
            "storage": {"ephemeral": True},
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            "server": {
                "parallel": STREAMS,
                "env": [{"name": name, "value": value} for name, value in _SERVER.items()],
            },
        },
    },
    {
        "kind": "ModelDistribution",
        "metadata": {"name": "m"},
        "spec": {"models": [{"name": MODEL}]},
    },
    {
        "kind": "Router",
        "metadata": {"name": "chat"},
        "spec": {"replicas": 1, "service": {"type": "LoadBalancer", "port": 11500}},
    },
]


@dataclass(frozen=True)
class Figure:
    """One change under load: how long it took, and what clients saw."""

    seconds: float
    chats: Load


class Bench:
    """The fleet, and what is done to it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl as the administrator."""
        return fleet.kubectl(self.cluster, *arguments)

    def read(self, kind: str, name: str) -> dict[str, Any]:
        """An object of the fleet."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def start(self) -> str:
        """The fleet, with the model in every server's memory; the router's URL."""
        documents = [{"apiVersion": "ollamafleet.dev/v1alpha1", **one} for one in _FLEET]
        path = self.cluster.directory / "fleet.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
        self.kubectl("apply", "-f", str(path))
        for what in ("ollamanode/a", "modeldistribution/m", "router/chat"):
            self.kubectl("wait", "--for=condition=Ready", what, f"--timeout={WITHIN:.0f}s")
        return str(self.read("router", "chat")["status"]["url"])

    def pods(self) -> dict[str, str]:
        """The servers' pods: uids by name."""
        chosen = ("-l", "ollamafleet.dev/ollamanode=a", "-o", "json")
        items = json.loads(self.kubectl("get", "pods", *chosen))["items"]
        return {one["metadata"]["name"]: one["metadata"]["uid"] for one in items}

    def whole(self) -> bool:
        """Whether the servers are as the spec wants them, models in memory included."""
        node = self.read("ollamanode", "a")
        status = node["status"]
        ready = next(one for one in status["conditions"] if one["type"] == "Ready")
        return bool(
            status["observedGeneration"] == node["metadata"]["generation"]
            and ready["status"] == "True"
        )

    def patch(self, spec: dict[str, Any]) -> None:
        """Change the servers."""
        self.kubectl("patch", "ollamanode", "a", "--type=merge", "-p", json.dumps({"spec": spec}))

    async def update(self) -> None:
        """Every server is replaced."""
        before = await asyncio.to_thread(self.pods)
        await asyncio.to_thread(self.patch, {"server": {"keepAlive": "1h"}})
        await self._until(lambda: not {*before.values()} & {*self.pods().values()} and self.whole())

    async def scale(self) -> None:
        """Two servers go, and come back."""
        await asyncio.to_thread(self.kubectl, "scale", "ollamanode/a", "--replicas=1")
        await self._until(lambda: len(self.pods()) == 1 and self.whole())
        await asyncio.to_thread(self.kubectl, "scale", "ollamanode/a", f"--replicas={SERVERS}")
        await self._until(lambda: len(self.pods()) == SERVERS and self.whole())

    async def drain(self) -> None:
        """The machine of a server is emptied, as before its maintenance."""
        servers = (await asyncio.to_thread(self.read, "ollamanode", "a"))["status"]["servers"]
        machine = next(one["kubernetesNode"] for one in servers if one["name"] == "a-0")
        options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={WITHIN:.0f}s")
        only = "--pod-selector=ollamafleet.dev/ollamanode=a"
        await asyncio.to_thread(self.kubectl, "drain", machine, *options, only)
        await self._until(self.whole)
        await asyncio.to_thread(self.kubectl, "uncordon", machine)
        await self._until(self.whole)

    async def _until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN
        while not await asyncio.to_thread(done):
            if time.monotonic() > deadline:
                raise SystemExit(f"not done within {WITHIN:.0f} s")
            await asyncio.sleep(0.25)


async def under_load(url: str, change: Callable[[], Awaitable[None]]) -> Figure:
    """Chats from before the change until after it."""
    stop = asyncio.Event()
    chats = asyncio.create_task(load(url, MODEL, STREAMS, stop, MOST_REQUESTS))
    await asyncio.sleep(2)
    began = time.monotonic()
    try:
        await change()
    finally:
        took = time.monotonic() - began
        stop.set()
        found = await chats
    return Figure(took, found)


async def run(directory: Path) -> dict[str, Figure]:
    machines = (*DEFAULT_MACHINES, Machine("gpu-48g", gpus=1, gpu_memory=48 * 2**30))
    async with AsyncExitStack() as stack:
        cluster = await asyncio.to_thread(
            Cluster.start, directory / "cluster", machines, models="real:30M", say=print
        )
        stack.callback(cluster.stop)
        bench = Bench(cluster)
        await asyncio.to_thread(fleet.install, cluster, None)
        url = await asyncio.to_thread(bench.start)
        return {
            "update of 3 servers": await under_load(url, bench.update),
            "scale 3 to 1 to 3": await under_load(url, bench.scale),
            "machine emptied": await under_load(url, bench.drain),
        }


def report(figures: dict[str, Figure]) -> bool:
    """Print and save the table; whether no chat was lost."""
    print(f"{STREAMS} streamed chats at once, {SERVERS} servers")
    print(f"{'':22}{'seconds':>9}{'chats':>8}{'failed':>8}{'cut off':>9}")
    saved: dict[str, float] = {}
    for change, figure in figures.items():
        chats = figure.chats
        print(
            f"{change:22}{figure.seconds:9.1f}{chats.asked:8}{chats.failed:8}"
            f"{chats.begun_and_cut:9}"
        )
        for reason in sorted(set(chats.reasons))[:5]:
            print(f"  {reason}")
        saved[f"{change}: seconds"] = round(figure.seconds, 1)
        saved[f"{change}: chats"] = chats.asked
        saved[f"{change}: failed"] = chats.failed
        saved[f"{change}: cut off"] = chats.begun_and_cut
    required = {name: "0" for name in saved if name.endswith(("failed", "cut off"))}
    held = not any(saved[name] for name in required)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({"figures": saved, "required": required, "held": held}, indent=2) + "\n"
    )
    return held


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        figures = asyncio.run(run(Path(name)))
    if not report(figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
