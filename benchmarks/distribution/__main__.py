"""How models get to many servers: `make bench-distribution`.

Twenty emulated servers pull one model over one link to the registry, each by itself and then
through a mirror. And: how long it takes to plan a large distribution.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dev.ollama import process
from dev.ollama.registry import Registry
from ollama_fleet.api.mirror import at_mirror
from ollama_fleet.api.names import ModelName
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.plan.distribution import plan_distribution
from ollama_fleet.plan.memory import Memory
from ollama_fleet.plan.servers import Probe, Server
from ollama_fleet.plan.tasks import RegistryFact, Seen

SERVERS = 20
MODEL = "llama3.1:8b"
LINK = 16e6
"""Bytes per second from the registry to everybody together."""
PLANNED_SERVERS, PLANNED_MODELS, PASSES = 1000, 10, 5
RESULT = Path(__file__).parents[1] / "results" / "distribution.json"


@dataclass(frozen=True)
class Figure:
    """One model on all servers: seconds, and bytes from the registry per byte of the model."""

    seconds: float
    egress: float


async def measure(directory: Path, mirrored: bool) -> Figure:
    """Pull the model to fresh servers."""
    async with Registry(rate=LINK) as registry:
        env = registry.environment()
        with ExitStack() as stack:
            name = ModelName.parse(MODEL)
            if mirrored:
                running = process.mirror(directory / "mirror", "--size=1Gi", env=env)
                address = stack.enter_context(running).url.removeprefix("http://")
                name = at_mirror(name, address)

            def start(index: int) -> str:
                server = process.server("emulator", directory / f"server-{index}", env)
                return stack.enter_context(server).url

            with ThreadPoolExecutor(4) as pool:
                urls = await asyncio.to_thread(lambda: list(pool.map(start, range(SERVERS))))
            began = time.monotonic()
            sizes = await asyncio.gather(*(pull(url, name, mirrored) for url in urls))
            return Figure(time.monotonic() - began, registry.served_bytes / sizes[0])


async def pull(url: str, name: ModelName, insecure: bool) -> int:
    """The bytes of the model, once it is installed."""
    async with OllamaClient(url, timeout=60) as client:
        async for _ in client.pull(name.qualified, insecure=insecure):
            pass
        (model,) = await client.tags()
        return model.size


def plan_seconds() -> float:
    """The median of several passes over a large distribution whose pulls have yet to begin."""
    models = [f"model-{index}:1b" for index in range(PLANNED_MODELS)]
    digests = {name: f"sha256:{index:064x}" for index, name in enumerate(models)}
    now = datetime.now(UTC)
    probe = Probe(version="0.35.1", first_seen=now, last_seen=now)
    memory = Memory(24 * 2**30, "label nvidia.com/gpu.memory")
    servers = [
        Server(f"a-{index}", "a", {}, "Ready", memory, f"http://10.0.0.{index}:11434", probe=probe)
        for index in range(PLANNED_SERVERS)
    ]
    distribution = {
        "apiVersion": "ollamafleet.dev/v1alpha1",
        "kind": "ModelDistribution",
        "metadata": {"name": "all", "namespace": "default", "generation": 1},
        "spec": {
            "models": [{"name": name} for name in models],
            "rollout": {"maxParallel": "25%"},
        },
    }
    facts = {name: RegistryFact(digest, 5 * 2**30, {digest: 5}) for name, digest in digests.items()}
    seen = Seen(registry=facts, running={}, failures={})
    passes = []
    for _ in range(PASSES):
        began = time.monotonic()
        made = plan_distribution(distribution, servers, True, seen, now)
        passes.append(time.monotonic() - began)
        assert len(made.start) == PLANNED_SERVERS // 4
    return statistics.median(passes)


def report(direct: Figure, mirrored: Figure, planning: float) -> bool:
    """Print and save the table; whether what is required held."""
    print(
        f"{SERVERS} servers pull {MODEL} at once; the registry gives {LINK / 1e6:.0f} MB/s in all"
    )
    print(f"{'':28}{'seconds':>9}{'bytes from the registry / size':>33}")
    for name, figure in (("each from the registry", direct), ("through the mirror", mirrored)):
        print(f"{name:28}{figure.seconds:9.1f}{figure.egress:33.2f}")
    work = f"{PLANNED_SERVERS} servers × {PLANNED_MODELS} models"
    print(f"{work + ', planned':28}{planning:9.2f}")
    figures = {
        "each from the registry: seconds": round(direct.seconds, 1),
        "each from the registry: egress": round(direct.egress, 2),
        "through the mirror: seconds": round(mirrored.seconds, 1),
        "through the mirror: egress": round(mirrored.egress, 2),
        f"{work}: seconds of a plan": round(planning, 2),
    }
    required = {
        "through the mirror: egress": "1.0",
        f"{work}: seconds of a plan": "< 1",
    }
    held = figures["through the mirror: egress"] == 1.0 and planning < 1
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({"figures": figures, "required": required, "held": held}, indent=2) + "\n"
    )
    return held


def main() -> None:
    planning = plan_seconds()
    with tempfile.TemporaryDirectory() as name:
        direct = asyncio.run(measure(Path(name) / "direct", mirrored=False))
        mirrored = asyncio.run(measure(Path(name) / "mirrored", mirrored=True))
    if not report(direct, mirrored, planning):
        sys.exit(1)


if __name__ == "__main__":
    main()
