"""How soon answers begin, and how often models are loaded, by who chooses: `make bench-routing`.

Five emulated servers with room for two of six models each, one of them four times as slow and one
that says "busy" to every chat at once. The same conversations go through this router by three
strategies, and through nginx by two, told to try the next server after a failure; and once through
nginx as it comes. Needs nginx; takes five minutes.
"""

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from benchmarks.router.__main__ import free_ports, running
from benchmarks.routing.trace import MODELS, Conversation, conversations
from dev.ollama import process

PARALLEL = 4
REQUEST_SECONDS = 30.0
RESULT = Path(__file__).parents[1] / "results" / "routing.json"

_SERVER = {
    "EMULATOR_MODELS": ",".join(MODELS),
    "EMULATOR_LOAD_BYTES_PER_SECOND": "4G",
    "EMULATOR_TOKENS_PER_SECOND": "60",
    "EMULATOR_PROMPT_TOKENS_PER_SECOND": "2000",
    "EMULATOR_ANSWER_TOKENS": "24",
    "OLLAMA_MAX_LOADED_MODELS": "2",
    "OLLAMA_NUM_PARALLEL": str(PARALLEL),
    "OLLAMA_CONTEXT_LENGTH": "8192",
}
_SLOW = {
    "EMULATOR_LOAD_BYTES_PER_SECOND": "1G",
    "EMULATOR_TOKENS_PER_SECOND": "15",
    "EMULATOR_PROMPT_TOKENS_PER_SECOND": "500",
}
_FAILING = {"EMULATOR_FAULTS": json.dumps([{"kind": "busy", "path": "/api/chat"}])}
SERVERS: tuple[dict[str, str], ...] = ({}, {}, {}, _SLOW, _FAILING)

_RETRIES = "proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent;"
_NGINX = """
worker_processes 1; daemon off; master_process off; pid {directory}/pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {directory}; proxy_temp_path {directory};
  fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
  client_body_buffer_size 64k;
  upstream servers {{ {method} {servers} keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_buffering off; proxy_read_timeout 600s; {retries}
    }}
  }}
}}
"""
NGINX = {
    "nginx, round robin": ("", _RETRIES),
    "nginx, least_conn": ("least_conn;", _RETRIES),
    "nginx, least_conn, no retries": ("least_conn;", ""),
}
ROUTER = {
    "router, LeastLoad": "LeastLoad",
    "router, PrefixAffinity": "PrefixAffinity",
    "router, RoundRobin": "RoundRobin",
}


@dataclass
class Figure:
    """One proxy. Times to the first token in seconds; `recomputed` is the share of the prompts'
    tokens that no server remembered."""

    firsts: list[float] = field(default_factory=list)
    failures: int = 0
    loads: int = 0
    recomputed: float = 0.0

    @property
    def p50(self) -> float:
        """The median; a failure never begins, so it counts as the longest wait."""
        return self._quantile(50)

    @property
    def p99(self) -> float:
        """Nearly the longest."""
        return self._quantile(99)

    def _quantile(self, percent: int) -> float:
        all_of_them = [*self.firsts, *[REQUEST_SECONDS] * self.failures]
        return statistics.quantiles(all_of_them, n=100, method="inclusive")[percent - 1]


async def play(url: str, trace: list[Conversation]) -> Figure:
    """Every conversation, each when it is due; one whose question fails goes on all the same."""
    figure = Figure()
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx2.AsyncClient(
        base_url=url, timeout=REQUEST_SECONDS, limits=limits, trust_env=False
    ) as client:

        async def talk(conversation: Conversation) -> None:
            await asyncio.sleep(conversation.begins)
            said = [{"role": "system", "content": conversation.system}]
            for pause, question in conversation.questions:
                await asyncio.sleep(pause)
                said.append({"role": "user", "content": question})
                answer = await ask(client, conversation.model, said, figure)
                said.append({"role": "assistant", "content": answer})

        await asyncio.gather(*(talk(conversation) for conversation in trace))
    return figure


async def ask(
    client: httpx2.AsyncClient, model: str, said: list[dict[str, str]], figure: Figure
) -> str:
    """One question; the answer as far as it came."""
    began = time.monotonic()
    first = 0.0
    text: list[str] = []
    done = False
    try:
        async with (
            asyncio.timeout(REQUEST_SECONDS),
            client.stream("POST", "/api/chat", json={"model": model, "messages": said}) as answer,
        ):
            async for line in answer.aiter_lines():
                piece = json.loads(line)
                first = first or time.monotonic() - began
                text.append(piece.get("message", {}).get("content", ""))
                done = answer.is_success and bool(piece.get("done"))
    except (httpx2.HTTPError, TimeoutError, ValueError):
        done = False
    if done:
        figure.firsts.append(first)
    else:
        figure.failures += 1
    return "".join(text)


def measure(directory: Path, proxy: str, trace: list[Conversation]) -> Figure:
    """Play the trace through one proxy, in front of servers with nothing in memory."""
    directory.mkdir()
    with ExitStack() as stack:

        def start(index: int) -> str:
            env = {**_SERVER, **SERVERS[index]}
            running = process.server("emulator", directory / f"server-{index}", env)
            return stack.enter_context(running).url

        with ThreadPoolExecutor(len(SERVERS)) as pool:
            urls = list(pool.map(start, range(len(SERVERS))))
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        command, answers = in_front(directory, proxy, port, urls)
        stack.enter_context(running(command, f"{url}{answers}"))
        figure = asyncio.run(play(url, trace))
        stats = [read(f"{server}/_emulator/stats") for server in urls]
    prompts = sum(one["prompt_tokens"] for one in stats)
    figure.loads = sum(one["loads"] for one in stats)
    figure.recomputed = 1 - sum(one["cached_prompt_tokens"] for one in stats) / prompts
    return figure


def in_front(directory: Path, proxy: str, port: int, urls: list[str]) -> tuple[list[str], str]:
    """The command of a proxy, and a path that it answers once it is ready."""
    if proxy in ROUTER:
        config = directory / "router.yaml"
        backends = [{"url": url, "parallel": PARALLEL} for url in urls]
        config.write_text(json.dumps({"backends": backends, "strategy": {"type": ROUTER[proxy]}}))
        program = [sys.executable, "-m", "ollama_fleet.router.main", "--config", str(config)]
        listen = ["--host", "127.0.0.1", "--port", str(port), "--metrics-port", "-1"]
        return [*program, *listen], "/readyz"
    method, retries = NGINX[proxy]
    servers = " ".join(f"server {url.removeprefix('http://')};" for url in urls)
    config = directory / "nginx.conf"
    config.write_text(
        _NGINX.format(
            directory=directory, port=port, servers=servers, method=method, retries=retries
        )
    )
    return ["nginx", "-c", str(config), "-p", str(directory)], "/api/version"


def read(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def report(figures: dict[str, Figure]) -> bool:
    """Print and save the table; whether both strategies are better than nginx."""
    print(f"{'':32}{'first token p50':>16}{'p99':>8}{'loads':>8}{'failures':>10}{'recomputed':>12}")
    saved: dict[str, float] = {}
    for proxy, figure in figures.items():
        print(
            f"{proxy:32}{figure.p50:14.2f} s{figure.p99:6.1f} s{figure.loads:8}"
            f"{figure.failures:10}{figure.recomputed:12.0%}"
        )
        saved[f"{proxy}: first token p50, seconds"] = round(figure.p50, 3)
        saved[f"{proxy}: first token p99, seconds"] = round(figure.p99, 3)
        saved[f"{proxy}: loads"] = figure.loads
        saved[f"{proxy}: failures"] = figure.failures
        saved[f"{proxy}: prompt tokens computed again"] = round(figure.recomputed, 3)
    required: dict[str, str] = {}
    held = True
    as_it_comes = "nginx, least_conn, no retries"
    best_p50 = min(figures[proxy].p50 for proxy in NGINX if proxy != as_it_comes)
    best_loads = min(figures[proxy].loads for proxy in NGINX if proxy != as_it_comes)
    for proxy in ("router, LeastLoad", "router, PrefixAffinity"):
        required[f"{proxy}: first token p50, seconds"] = f"< {best_p50:.3f}, nginx's best"
        required[f"{proxy}: loads"] = f"< {best_loads}, nginx's fewest"
        required[f"{proxy}: failures"] = "0"
        figure = figures[proxy]
        held &= figure.p50 < best_p50 and figure.loads < best_loads and not figure.failures
    required[f"{as_it_comes}: failures"] = "> 0"
    held &= figures[as_it_comes].failures > 0
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({"figures": saved, "required": required, "held": held}, indent=2) + "\n"
    )
    return held


def main() -> None:
    if shutil.which("nginx") is None:
        raise SystemExit("nginx not found: apt-get install nginx-light")
    trace = conversations()
    print(
        f"{len(trace)} conversations of {len(trace[0].questions)} turns, {len(MODELS)} models, "
        f"{len(SERVERS)} servers"
    )
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as name:
        for index, proxy in enumerate((*ROUTER, *NGINX)):
            figures[proxy] = measure(Path(name) / str(index), proxy, trace)
    if not report(figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
