"""What the router costs, beside other proxies in the same run: `make bench-router`.

Needs nginx and wrk; HAProxy, vllm-router and LiteLLM are measured where they are. Each proxy has
one core, the same one, and the same servers behind it; load and servers have another. Proxies take
turns, and figures are medians of the rounds: what else happens on the machine hits all of them.
CPU time is the proxy's own, read from /proc. About five minutes.
"""

import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.router.answering import CHUNKS
from benchmarks.router.load import Stream, chats, with_streams
from benchmarks.router.proxies import Place, Proxy, available

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = 2
CONNECTIONS = 32
SERVERS = 3
SERVERS_FOR_STREAMS = 24
PACED_STREAMS = 100
OPEN_STREAMS = 10_000
PAGE = resource.getpagesize()
RESULT = Path(__file__).parents[1] / "results" / "router.json"

SMALL, LARGE, FLAT_OUT, PACED = "chat 0.4 KB", "chat 8 KB", "chunk, flat out", "chunk, every 20 ms"
_SIZES = {SMALL: 300, LARGE: 8000}


@dataclass(frozen=True)
class Round:
    """One proxy in one round: CPU in microseconds per request or chunk, requests per second."""

    cpu: dict[str, float]
    per_second: dict[str, float]
    errors: int
    added: tuple[int, int]
    """Microseconds added to the 50th and the 99th percentile, with one request at a time."""


Rounds = dict[str, list[Round]]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def running(arguments: list[str], url: str, seconds: float = 20) -> Iterator[int]:
    """A program that answers at `url`; its process id."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, env=_environment())
        try:
            deadline = time.monotonic() + seconds
            while not answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    told = log.read().decode(errors="replace").strip()[-600:]
                    raise SystemExit(f"{' '.join(arguments)} did not start: {told}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    # Nothing is sent home, and nothing fetched.
    return {**os.environ, "LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def cpu_seconds(pid: int) -> float:
    """Time on a CPU, to the nanosecond; the counts in /proc/PID/stat are samples."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


class Bench:
    """The servers, and how proxies are put in front of them."""

    def __init__(self, directory: Path, cores: list[int]) -> None:
        self.directory = directory
        self.core = str(cores[-1])
        self.servers = free_ports(SERVERS_FOR_STREAMS)
        self.files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    @contextmanager
    def proxy(self, proxy: Proxy, servers: int) -> Iterator[tuple[int, int]]:
        """A proxy on its core; its port and process id."""
        port, spare = free_ports(2)
        folder = Path(tempfile.mkdtemp(dir=self.directory))
        command = proxy.command(Place(folder, port, spare, self.servers[:servers], self.files))
        url = f"http://127.0.0.1:{port}{proxy.ready}"
        with running(["taskset", "-c", self.core, *command], url, 90) as pid:
            yield port, pid

    def round(self, proxy: Proxy, port: int, pid: int) -> Round:
        """One turn of a proxy."""
        cpu: dict[str, float] = {}
        per_second: dict[str, float] = {}
        errors = 0
        for work, content in _SIZES.items():
            before = cpu_seconds(pid)
            done = chats(self.directory, port, content, False, CONNECTIONS, SECONDS)
            cpu[work] = (cpu_seconds(pid) - before) / max(done.requests, 1) * 1e6
            per_second[work] = done.per_second
            errors += done.errors
        before = cpu_seconds(pid)
        done = chats(self.directory, port, _SIZES[SMALL], True, CONNECTIONS, SECONDS)
        cpu[FLAT_OUT] = (cpu_seconds(pid) - before) / max(done.requests, 1) / CHUNKS * 1e6
        errors += done.errors
        streams = PACED_STREAMS // 5 if proxy.slow else PACED_STREAMS
        cpu[PACED] = with_streams(port, streams, "pace", lambda opened: paced(pid, opened))
        alone = chats(self.directory, port, _SIZES[SMALL], False, 1, 1)
        direct = chats(self.directory, self.servers[0], _SIZES[SMALL], False, 1, 1)
        added = (alone.p50 - direct.p50, alone.p99 - direct.p99)
        return Round(cpu, per_second, errors + alone.errors, added)

    def memory(self, proxy: Proxy) -> tuple[int, float]:
        """Streams that were open at once, and what each of them cost in KB."""
        # A proxy has two descriptors for each stream.
        count = min(proxy.streams or OPEN_STREAMS, (self.files - 200) // 2)
        with self.proxy(proxy, SERVERS_FOR_STREAMS) as (port, pid):

            async def count_warm(opened: list[Stream]) -> int:
                return len(opened)

            with_streams(port, SERVERS_FOR_STREAMS, "hold", count_warm)
            before = resident_bytes(pid)

            async def held(opened: list[Stream]) -> tuple[int, float]:
                bytes_each = (resident_bytes(pid) - before) / max(len(opened), 1)
                return len(opened), bytes_each / 1024

            return with_streams(port, count, "hold", held)


async def paced(pid: int, opened: list[Stream]) -> float:
    """CPU microseconds per chunk of streams that are all under way."""
    before, chunks = cpu_seconds(pid), sum(stream.chunks for stream in opened)
    await asyncio.sleep(SECONDS)
    used = cpu_seconds(pid) - before
    return used / max(sum(stream.chunks for stream in opened) - chunks, 1) * 1e6


def measure(bench: Bench, proxies: list[Proxy]) -> tuple[Rounds, dict[str, tuple[int, float]]]:
    """Every proxy in every round, and then one by one with many streams."""
    rounds: Rounds = {proxy.name: [] for proxy in proxies}
    with ExitStack() as stack:
        at = [(proxy, *stack.enter_context(bench.proxy(proxy, SERVERS))) for proxy in proxies]
        for number in range(ROUNDS):
            for proxy, port, pid in at:
                print(f"round {number + 1} of {ROUNDS}: {proxy.name}", file=sys.stderr)
                rounds[proxy.name].append(bench.round(proxy, port, pid))
    memory = {}
    for proxy in proxies:
        print(f"open streams: {proxy.name}", file=sys.stderr)
        memory[proxy.name] = bench.memory(proxy)
    return rounds, memory


def cpu_of(work: str) -> Callable[[Round], float]:
    return lambda one: one.cpu[work]


def rate_of(work: str) -> Callable[[Round], float]:
    return lambda one: one.per_second[work]


def added_at(place: int) -> Callable[[Round], float]:
    return lambda one: one.added[place]


def median(rounds: list[Round], figure: Callable[[Round], float]) -> float:
    return statistics.median(figure(one) for one in rounds)


def ratio(rounds: Rounds, over: str, figure: Callable[[Round], float]) -> float:
    """The router's share of another's figure: the median of what each round has seen."""
    pairs = zip(rounds["router"], rounds[over], strict=True)
    return round(statistics.median(figure(one) / figure(other) for one, other in pairs), 2)


def table(rounds: Rounds, memory: dict[str, tuple[int, float]]) -> None:
    works = (SMALL, LARGE, FLAT_OUT, PACED)
    print("one core each; CPU in µs per request or chunk")
    columns = "".join(f"{work:>20}" for work in works)
    print(f"{'':12}{columns}{'added p50 / p99':>20}{'open streams':>16}{'KB each':>9}")
    for name, turns in rounds.items():
        cells = []
        for work in works:
            cpu = f"{median(turns, cpu_of(work)):.1f} µs"
            if work in _SIZES:
                rate = median(turns, rate_of(work))
                cpu = f"{rate:,.0f}/s {cpu}"
            cells.append(f"{cpu:>20}")
        p50, p99 = (median(turns, added_at(at)) for at in (0, 1))
        count, each = memory[name]
        print(f"{name:12}{''.join(cells)}{f'{p50:.0f} / {p99:.0f} µs':>20}{count:16,}{each:9.1f}")


def required(
    rounds: Rounds, memory: dict[str, tuple[int, float]]
) -> list[tuple[str, float, str, bool]]:
    """What is demanded of the router: what of, the figure, the demand, and whether it holds."""
    demands = []
    for work, most in ((SMALL, 2.0), (LARGE, 2.0), (FLAT_OUT, 1.5), (PACED, 1.5)):
        seen = ratio(rounds, "nginx", cpu_of(work))
        demands.append((f"{work}: CPU, router / nginx", seen, f"<= {most}", seen <= most))
    count, each = memory["router"]
    demands.append(
        (f"{count:,} open streams: KB each", round(each, 1), "<= 30", each <= 30 and count >= 9000)
    )
    if "vllm-router" in rounds:
        seen = ratio(rounds, "vllm-router", lambda one: one.per_second[SMALL])
        name = f"{SMALL}: requests, router / vllm-router"
        demands.append((name, seen, ">= 1.3", seen >= 1.3))
    errors = sum(one.errors for one in rounds["router"])
    demands.append(("errors through the router", errors, "0", not errors))
    return demands


def report(rounds: Rounds, memory: dict[str, tuple[int, float]]) -> bool:
    """Print and save; whether what is required held."""
    table(rounds, memory)
    demands = required(rounds, memory)
    figures = {}
    for work in _SIZES:
        figures[f"{work}: requests, router / nginx"] = ratio(rounds, "nginx", rate_of(work))
    figures |= {name: figure for name, figure, _, _ in demands}
    for name, figure, demand, holds in demands:
        print(f"{'held' if holds else 'MISSED':8}{name}: {figure} (required: {demand})")
    held = all(holds for *_, holds in demands)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps(
            {
                "figures": figures,
                "required": {name: demand for name, _, demand, _ in demands},
                "held": held,
            },
            indent=2,
        )
        + "\n"
    )
    return held


def main() -> None:
    proxies = available()
    if only := os.environ.get("ONLY"):
        proxies = [proxy for proxy in proxies if proxy.name in only.split(",")]
    cores = sorted(os.sched_getaffinity(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    os.sched_setaffinity(0, cores[:1])
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), cores)
        answering = [sys.executable, "-m", "benchmarks.router.answering"]
        ready = f"http://127.0.0.1:{bench.servers[0]}/api/version"
        with running([*answering, *map(str, bench.servers)], ready):
            rounds, memory = measure(bench, proxies)
    if not report(rounds, memory):
        sys.exit(1)


if __name__ == "__main__":
    main()
