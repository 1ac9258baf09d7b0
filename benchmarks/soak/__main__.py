"""A fleet in use for an hour, while all of it is changed, killed and rolled: `make soak`.

A real Kubernetes with the installed fleet, two router replicas that ask for keys, three servers;
streamed chats and embeddings all the time. No request may be lost that had no byte of its answer
yet, none garbled, and the memory of no program may go on growing.

`python -m benchmarks.soak [MINUTES]` (60) ends by itself.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx2

from benchmarks.chaos.chatting import ANSWER_SECONDS, Client
from benchmarks.soak.fleet import CHAT, EMBED, NAMESPACE, Churn
from benchmarks.soak.memory import PROGRAMS, Memory
from dev.cluster import Cluster
from dev.fleet import install
from ollama_fleet.kube import Kube

CHATS, EMBEDDINGS = 16, 4
LONG = 600.0
"""Seconds from which on memory must be flat: in less, caches still fill."""
KILLED = "server killed"
COUNTED = ("asked", "whole", "embedded", "cut off", "left", "lost", "wrong")


@dataclass
class Outcome:
    """What was done, and what came of it."""

    seconds: float
    done: Counter[str]
    counts: Counter[str]
    memory: Memory
    cuts: Counter[str]
    """Answers cut off by what was done meanwhile."""
    complaints: list[str] = field(default_factory=list)

    @property
    def growing(self) -> list[str]:
        """The programs whose memory goes on growing, as far as that can be told."""
        if self.seconds < LONG:
            return []
        return [one for one in PROGRAMS if not self.memory.flat(one)]

    @property
    def held(self) -> bool:
        """Whether nothing was lost or wrong, nothing cut where no server was killed, and all
        memory is flat."""
        counts = self.counts
        tried = counts["whole"] and counts["embedded"] and self.done
        bad = counts["lost"] + counts["wrong"] + sum(self.needless.values())
        return bool(tried) and not bad and not self.growing

    @property
    def needless(self) -> dict[str, int]:
        """Answers cut off by what should cut none."""
        return {how: count for how, count in self.cuts.items() if how != KILLED and count}


async def embed(
    churn: Churn, expected: Any, stop: asyncio.Event, counts: Counter[str], complaints: list[str]
) -> None:
    """Ask for embeddings, one after another."""
    while not stop.is_set():
        counts["asked"] += 1
        headers = {"Authorization": f"Bearer {churn.key}"}
        async with httpx2.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as client:
            try:
                answer = await client.post(
                    f"{churn.url}/api/embed",
                    json={"model": EMBED, "input": "x"},
                    headers=headers,
                )
                found = answer.json()
            except (httpx2.HTTPError, ValueError) as error:
                counts["lost"] += 1
                complaints.append(f"embedding: {type(error).__name__}: {error}")
                continue
        if answer.status_code != 200:
            counts["lost"] += 1
            complaints.append(f"embedding: {answer.status_code} {answer.text[:200]}")
        elif found["embeddings"] != expected:
            counts["wrong"] += 1
            complaints.append(f"embedding: {answer.text[:200]}")
        else:
            counts["embedded"] += 1
        await asyncio.sleep(0.05)


async def _said(churn: Churn) -> tuple[str, Any]:
    """What an undisturbed server says to a chat, and to be embedded."""
    address = (await churn.pods())[0]["status"]["podIP"]
    url = f"http://{address}:11434"
    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        asked = {"model": CHAT, "messages": [{"role": "user", "content": "x"}], "stream": False}
        chat = (await client.post("/api/chat", json=asked)).json()
        vector = (await client.post("/api/embed", json={"model": EMBED, "input": "x"})).json()
    return str(chat["message"]["content"]), vector["embeddings"]


async def disturb(
    churn: Churn, seconds: float, random: Random, done: Counter[str], counts: Counter[str]
) -> Counter[str]:
    """One thing after another for so long, each kind once a round; how many answers each cut off.

    What starts a program again happens in the first third alone: its memory is compared after
    that.
    """
    cuts: Counter[str] = Counter()
    began = time.monotonic()
    while True:
        early = time.monotonic() - began < seconds / 3
        kinds = {**churn.lasting, **(churn.starting if early else {})}
        order = sorted(kinds)
        random.shuffle(order)
        if early:
            order.sort(key=lambda one: one not in churn.starting)
        for name in order:
            if time.monotonic() - began > seconds:
                return cuts
            before = counts["cut off"]
            await kinds[name]()
            done[name] += 1
            await asyncio.sleep(random.uniform(0.5, 3))
            cuts[name] += counts["cut off"] - before


async def watch(
    memory: Memory, counts: Counter[str], done: Counter[str], say: Callable[[str], None]
) -> None:
    """Look at the memory every few seconds, and tell every minute how it stands."""
    told = 0
    while True:
        now = memory.look()
        minute = int((time.monotonic() - memory.began) // 60)
        if minute > told:
            told = minute
            figures = ", ".join(f"{counts[name]} {name}" for name in COUNTED)
            used = ", ".join(f"{name} {mib:.0f}" for name, mib in now.items())
            say(f"{minute:3} min: {figures}; MiB: {used}; {done.total()} disturbances")
        await asyncio.sleep(5)


async def run(
    directory: Path, seconds: float, say: Callable[[str], None] = print, seed: int = 1
) -> Outcome:
    """The whole: a cluster of its own, gone afterwards."""
    random = Random(seed)
    async with AsyncExitStack() as stack:
        cluster = await asyncio.to_thread(
            Cluster.start, directory / "cluster", models="real:100M", backoff=1.0
        )
        stack.callback(cluster.stop)
        await asyncio.to_thread(install, cluster, None)
        kube = await stack.enter_async_context(await Kube.connect(str(cluster.kubeconfig)))
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        await kube.create(made)
        churn = Churn(cluster, kube, random)
        await churn.start()
        text, vector = await _said(churn)
        stop, counts, done = asyncio.Event(), Counter[str](), Counter[str]()
        complaints: list[str] = []
        clients = [
            Client(churn.url, {CHAT: text}, Random(f"{seed} {one}"), counts, lambda: churn.key)
            for one in range(CHATS)
        ]
        memory = Memory(cluster)
        began = time.monotonic()
        work = [asyncio.create_task(client.run(stop)) for client in clients]
        work += [
            asyncio.create_task(embed(churn, vector, stop, counts, complaints))
            for _ in range(EMBEDDINGS)
        ]
        watching = asyncio.create_task(watch(memory, counts, done, say))
        try:
            cuts = await disturb(churn, seconds, random, done, counts)
        finally:
            stop.set()
            await asyncio.gather(*work)
            watching.cancel()
            took = time.monotonic() - began
    complaints += [one for client in clients for one in client.complaints]
    return Outcome(took, done, counts, memory, cuts, complaints)


def report(outcome: Outcome, say: Callable[[str], None] = print) -> None:
    """Print what came of it."""
    say(f"{outcome.seconds:.0f} s, {CHATS} streamed chats and {EMBEDDINGS} embeddings at once")
    say("  " + ", ".join(f"{count} x {how}" for how, count in sorted(outcome.done.items())))
    say("  " + ", ".join(f"{outcome.counts[name]} {name}" for name in COUNTED))
    for how, count in outcome.needless.items():
        say(f"  {count} cut off though no server was killed: {how}")
    for complaint in sorted(set(outcome.complaints))[:10]:
        say(f"  {complaint[:300]}")
    say(f"{'MiB, means of the':20}{'first':>8}{'middle':>8}{'last third':>12}{'an hour':>10}")
    for program in PROGRAMS:
        if not outcome.memory.samples[program]:
            continue
        first, middle, last = outcome.memory.thirds(program)
        slope = outcome.memory.slope(program)
        restarts = outcome.memory.restarts[program]
        say(
            f"{program:20}{first:8.1f}{middle:8.1f}{last:12.1f}{slope:+10.1f}"
            f"  {restarts} started again"
        )
    for program in outcome.growing:
        say(f"the memory of the {program} goes on growing")


def main() -> None:
    """Run for the minutes that are asked for."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as name:

        def say(line: str) -> None:
            print(line, flush=True)

        outcome = asyncio.run(run(Path(name), 60 * minutes, say))
    report(outcome, say)
    if not outcome.held:
        sys.exit(1)


if __name__ == "__main__":
    main()
