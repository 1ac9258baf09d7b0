"""What clients notice while servers die, hang, restart and wedge at random: `make chaos-router`.

Four emulated servers and the router on loopback, streamed chats of three models all the time; at
most two servers are disturbed at once. A request without a byte must not be lost, and no answer
may have other bytes than a server would have sent, in another order, or twice.

`python -m benchmarks.chaos [MINUTES]` (10) ends by itself and saves its figures.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx2

from benchmarks.chaos.chatting import Client
from benchmarks.router.__main__ import free_ports
from dev.ollama import process

MODELS = ("llama3.2:1b", "llama3.2:3b", "llama3.1:8b")
SERVERS, DISTURBED, CLIENTS = 4, 2, 32
PAUSE = 2.0
"""Seconds between disturbances, on average."""
NOTICED = 3.0
"""Seconds until the router's probes have seen that a server is back; until then it is not."""
MENDED_WITHIN = 120.0
"""Seconds that unloading a wedged model may take; its server counts as disturbed until then."""
RESULT = Path(__file__).parents[1] / "results" / "chaos.json"
_ENV = {
    "EMULATOR_MODELS": ",".join(MODELS),
    "EMULATOR_TOKENS_PER_SECOND": "60",
    "EMULATOR_ANSWER_TOKENS": "40",
    "EMULATOR_LOAD_BYTES_PER_SECOND": "20G",
    "OLLAMA_NUM_PARALLEL": "16",
    "OLLAMA_MAX_LOADED_MODELS": "3",
}


class Server:
    """An emulated server that always comes back at the same address."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._directory = directory
        self._env = {**_ENV, "OLLAMA_HOST": f"127.0.0.1:{port}"}
        self._stack = ExitStack()
        self._running: process.Server | None = None

    def start(self) -> None:
        """Returns when it listens."""
        self._stack = ExitStack()
        running = process.server("emulator", self._directory, self._env)
        self._running = self._stack.enter_context(running)

    def stop(self) -> None:
        """In good order, which cuts what is under way."""
        self._stack.close()

    async def disturb(self, how: str, random: Random) -> None:
        """Do it, and make it good again after a while."""
        assert self._running is not None
        group = self._running.process.pid
        if how == "hang":
            os.killpg(group, signal.SIGSTOP)
            try:
                await asyncio.sleep(random.uniform(0.5, 8))
            finally:
                os.killpg(group, signal.SIGCONT)
        elif how == "wedge":
            fault = {"kind": "wedge", "model": random.choice(MODELS), "count": 1}
            async with httpx2.AsyncClient(base_url=self.url, trust_env=False) as client:
                before = await _unloads(client)
                await client.post("/_emulator/faults", json=fault)
                end = time.monotonic() + MENDED_WITHIN
                while (  # noqa: ASYNC110 - it is another process
                    time.monotonic() < end and await _unloads(client) == before
                ):
                    await asyncio.sleep(1)
        else:
            await asyncio.to_thread(self._running.kill if how == "kill" else self.stop)
            await asyncio.sleep(random.uniform(0.2, 4))
            await asyncio.to_thread(self.stop)
            await asyncio.to_thread(self.start)
            await asyncio.sleep(NOTICED)


async def _unloads(client: httpx2.AsyncClient) -> int:
    return int((await client.get("/_emulator/stats")).json()["unloads"])


@dataclass(frozen=True)
class Outcome:
    """What was done, what came of the chats, and what clients would complain of."""

    seconds: float
    disturbances: Counter[str]
    chats: Counter[str]
    complaints: list[str]

    @property
    def held(self) -> bool:
        """Whether nothing was lost or wrong, and something was tried."""
        tried = self.chats["whole"] and self.disturbances
        return bool(tried) and not self.chats["lost"] and not self.chats["wrong"]


@asynccontextmanager
async def routing(directory: Path, urls: list[str]) -> AsyncIterator[str]:
    """The router in front of these servers; its URL."""
    port, admin = free_ports(2)
    config = {
        "backends": [{"url": url} for url in urls],
        "retry": {"attempts": SERVERS},
        "health": {"interval": "1s"},
    }
    path = directory / "router.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "ollama_fleet.router.main", f"--config={path}"]
    command += ["--host=127.0.0.1", f"--port={port}", f"--metrics-port={admin}"]
    with (directory / "router.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220
    try:
        async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(30):
            while True:
                with suppress(httpx2.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{admin}/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()


async def texts_of(url: str) -> dict[str, str]:
    """What each model says, from a server that nobody disturbs."""
    found = {}
    async with httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        for model in MODELS:
            asked = {"model": model, "messages": [{"role": "user", "content": "x"}]}
            answer = await client.post("/api/chat", json={**asked, "stream": False})
            found[model] = str(answer.json()["message"]["content"])
    return found


async def chaos(
    servers: list[Server], seconds: float, kinds: list[str], random: Random
) -> Counter[str]:
    """Disturb servers at random for so long; all are well again at the end."""
    done: Counter[str] = Counter()
    busy: dict[Server, asyncio.Task[None]] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(random.expovariate(1 / PAUSE))
        busy = {server: task for server, task in busy.items() if not task.done() or task.result()}
        free = [server for server in servers if server not in busy]
        if len(busy) < DISTURBED:
            how = random.choice(kinds)
            done[how] += 1
            chosen = random.choice(free)
            busy[chosen] = asyncio.create_task(chosen.disturb(how, random))
    await asyncio.gather(*busy.values())
    return done


async def run(directory: Path, seconds: float, kinds: list[str], seed: int = 1) -> Outcome:
    """The whole: bounded by `seconds`, and what the last chats take."""
    random = Random(seed)
    chats: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        servers = [
            Server(directory / f"s{index}", port) for index, port in enumerate(free_ports(SERVERS))
        ]
        for server in servers:
            await asyncio.to_thread(server.start)
            stack.push_async_callback(asyncio.to_thread, server.stop)
        texts = await texts_of(servers[0].url)
        url = await stack.enter_async_context(routing(directory, [one.url for one in servers]))
        stop = asyncio.Event()
        clients = [
            Client(url, texts, Random(f"{seed} {number}"), chats) for number in range(CLIENTS)
        ]
        began = time.monotonic()
        work = [asyncio.create_task(client.run(stop)) for client in clients]
        done = await chaos(servers, seconds, kinds, random)
        stop.set()
        await asyncio.gather(*work)
        took = time.monotonic() - began
    return Outcome(took, done, chats, [one for client in clients for one in client.complaints])


def report(outcome: Outcome) -> None:
    """Print the figures and save them."""
    chats, done = outcome.chats, outcome.disturbances
    print(f"{outcome.seconds:.0f} s, {SERVERS} servers, {CLIENTS} streamed chats at once")
    print("  " + ", ".join(f"{count} x {how}" for how, count in sorted(done.items())))
    names = ("asked", "whole", "cut off", "left", "lost", "wrong")
    print("  " + ", ".join(f"{chats[name]} {name}" for name in names))
    for complaint in sorted(set(outcome.complaints))[:10]:
        print(f"  {complaint[:300]}")
    figures: dict[str, float] = {"seconds": round(outcome.seconds, 1)}
    figures |= {f"servers: {how}": count for how, count in sorted(done.items())}
    figures |= {f"chats: {name}": chats[name] for name in names}
    required = {"chats: lost": "0", "chats: wrong": "0"}
    RESULT.parent.mkdir(exist_ok=True)
    saved = {"figures": figures, "required": required, "held": outcome.held}
    RESULT.write_text(json.dumps(saved, indent=2) + "\n")


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    kinds = ["kill", "kill", "hang", "hang", "restart", "restart", "wedge"]
    with tempfile.TemporaryDirectory() as name:
        outcome = asyncio.run(run(Path(name), 60 * minutes, kinds))
        report(outcome)
        if not outcome.held:
            print((Path(name) / "router.log").read_text()[-3000:], file=sys.stderr)
    if not outcome.held:
        sys.exit(1)


if __name__ == "__main__":
    main()
