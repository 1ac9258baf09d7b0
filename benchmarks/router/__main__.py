"""Requests per second and CPU time of the router, as ratios to nginx in the same run.

`python -m benchmarks.router` needs nginx and wrk; takes about 40 seconds. One worker each, the
same three servers behind both. CPU time is the proxy's own, read from /proc.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.router.answering import CHUNKS

SECONDS = 5
CONNECTIONS = 32
SERVERS = 3
RESULT = Path(__file__).parents[1] / "results" / "router.json"

_WORK = {
    "chat 0.4 KB": ("x" * 300, "false"),
    "chat 8 KB": ("x" * 8000, "false"),
    f"stream of {CHUNKS} chunks": ("x" * 300, "true"),
}
_NGINX = """
worker_processes 1; daemon off; master_process off; pid {directory}/pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {directory}; proxy_temp_path {directory};
  fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
  client_body_buffer_size 64k; keepalive_requests 1000000000;
  upstream servers {{ least_conn; {servers} keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Figure:
    """One proxy under one kind of work."""

    per_second: float
    cpu_microseconds: float
    """Per request."""
    errors: int


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def running(arguments: list[str], url: str) -> Iterator[int]:
    """A program that answers at `url`; its process id."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{arguments[0]} did not start")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def cpu_seconds(pid: int) -> float:
    """Time on a CPU, to the nanosecond; the counts in /proc/PID/stat are samples."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def measure(directory: Path, port: int, pid: int, content: str, stream: str) -> Figure:
    body = f'{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"{content}"}}]}}'
    script = directory / "request.lua"
    script.write_text(
        f"wrk.method = 'POST'; wrk.body = '{body}'\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
        "done = function(summary) io.write(string.format('RESULT %d %d %d\\n', "
        "summary.requests, summary.duration, summary.errors.connect + summary.errors.read + "
        "summary.errors.write + summary.errors.status + summary.errors.timeout)) end\n"
    )
    before = cpu_seconds(pid)
    done = subprocess.run(
        [
            "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script),
            f"http://127.0.0.1:{port}/api/chat",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    used = cpu_seconds(pid) - before
    told = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    requests, microseconds, errors = (int(number) for number in told.split()[1:])
    return Figure(requests / microseconds * 1e6, used / requests * 1e6, errors)


def main() -> None:
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"{' and '.join(missing)} not found: apt-get install nginx-light wrk")
    *servers, nginx_port, router_port = free_ports(SERVERS + 2)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        listed = " ".join(f"server 127.0.0.1:{port};" for port in servers)
        config = directory / "nginx.conf"
        config.write_text(_NGINX.format(directory=directory, port=nginx_port, servers=listed))
        (directory / "router.yaml").write_text(
            json.dumps(
                {
                    "backends": [{"url": f"http://127.0.0.1:{port}"} for port in servers],
                    "queue": {"perServer": CONNECTIONS},
                }
            )
        )
        python = [sys.executable, "-m"]
        stack.enter_context(
            running(
                [*python, "benchmarks.router.answering", *map(str, servers)],
                f"http://127.0.0.1:{servers[0]}/api/version",
            )
        )
        nginx = stack.enter_context(
            running(
                ["nginx", "-c", str(config), "-p", name],
                f"http://127.0.0.1:{nginx_port}/api/version",
            )
        )
        router = stack.enter_context(
            running(
                [
                    *python, "ollama_fleet.router.main", "--config",
                    str(directory / "router.yaml"), "--host", "127.0.0.1",
                    "--port", str(router_port), "--metrics-port", "-1",
                ],
                f"http://127.0.0.1:{router_port}/readyz",
            )
        )  # fmt: skip
        proxies = {"nginx": (nginx_port, nginx), "router": (router_port, router)}
        figures = {
            work: {
                proxy: measure(directory, port, pid, content, stream)
                for proxy, (port, pid) in proxies.items()
            }
            for work, (content, stream) in _WORK.items()
        }
    report(figures)


def report(figures: dict[str, dict[str, Figure]]) -> None:
    print(f"{'':24}{'nginx':>20}{'router':>20}{'router / nginx':>18}")
    print(f"{'':24}{'req/s':>10}{'µs CPU':>10}{'req/s':>10}{'µs CPU':>10}{'req/s':>9}{'CPU':>9}")
    saved: dict[str, float] = {}
    errors = 0
    for work, by_proxy in figures.items():
        nginx, router = by_proxy["nginx"], by_proxy["router"]
        rate = router.per_second / nginx.per_second
        cost = router.cpu_microseconds / nginx.cpu_microseconds
        print(
            f"{work:24}{nginx.per_second:10,.0f}{nginx.cpu_microseconds:10.1f}"
            f"{router.per_second:10,.0f}{router.cpu_microseconds:10.1f}{rate:9.2f}{cost:9.2f}"
        )
        saved[f"{work}: CPU, router / nginx"] = round(cost, 2)
        saved[f"{work}: requests, router / nginx"] = round(rate, 2)
        errors += router.errors
    print(f"errors through the router: {errors}")
    saved["errors through the router"] = errors
    required = {"errors through the router": "0"}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({"figures": saved, "required": required, "held": errors == 0}, indent=2) + "\n"
    )
    if errors:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
