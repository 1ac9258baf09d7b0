"""A real Prometheus, and a stand-in for NVIDIA's exporter beside it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import yaml

from tests.cluster.waiting import eventually

Json = dict[str, Any]


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    http: httpx2.Client

    def ask(self, path: str, **query: str) -> Any:
        """What its API answers; AssertionError with its own words where it refuses."""
        answer = self.http.get(f"/api/v1/{path}", params=query).json()
        assert answer["status"] == "success", f"{query}: {answer.get('error')}"
        return answer["data"]

    def query(self, expr: str) -> list[Json]:
        """The samples that an expression gives now, those that are no number left out."""
        found: list[Json] = self.ask("query", query=expr)["result"]
        return [one for one in found if one["value"][1] != "NaN"]

    def values(self, definition: str) -> list[str]:
        """The choices of a dashboard's variable, as Grafana asks for them."""
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", definition, re.DOTALL)
        assert found, definition
        return [
            one["metric"].get(found[2], "")
            for one in self.query(f"group by ({found[2]}) ({found[1]})")
        ]


@contextmanager
def prometheus(
    program: Path, directory: Path, rules: Sequence[Path], jobs: Sequence[Json]
) -> Iterator[Prometheus]:
    """Scrapes every second, and evaluates the rules as often."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": list(jobs),
    }
    directory.mkdir(parents=True)
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={directory / 'prometheus.yaml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=output,
            stderr=output,
        )
    try:
        address = eventually(
            "Prometheus listens",
            lambda: re.search(r'msg="Listening on" address=(\S+)', log.read_text()),
        )
        assert address
        with httpx2.Client(base_url=f"http://{address[1]}", timeout=20, trust_env=False) as http:
            eventually("Prometheus is ready", lambda: http.get("/-/ready").is_success)
            yield Prometheus(http)
    finally:
        process.terminate()
        process.wait(20)


def job(name: str, targets: Mapping[str, Mapping[str, str]], **settings: Any) -> Json:
    """What is scraped, by address with its labels."""
    found = [{"targets": [at], "labels": dict(labels)} for at, labels in targets.items()]
    return {"job_name": name, "static_configs": found, **settings}


@contextmanager
def dcgm(machines: Sequence[str]) -> Iterator[str]:
    """Serves what NVIDIA's exporter tells of a GPU on each machine; its address."""
    told = {
        "DCGM_FI_DEV_GPU_UTIL": 87,
        "DCGM_FI_DEV_FB_USED": 9000,
        "DCGM_FI_DEV_FB_FREE": 3000,
        "DCGM_FI_DEV_GPU_TEMP": 64,
        "DCGM_FI_DEV_POWER_USAGE": 211.5,
        "DCGM_FI_DEV_XID_ERRORS": 0,
    }
    body = "".join(
        f"# TYPE {name} gauge\n"
        + "".join(
            f'{name}{{gpu="0",UUID="GPU-{machine}",device="nvidia0",modelName="NVIDIA A10",'
            f'Hostname="{machine}"}} {value}\n'
            for machine in machines
        )
        for name, value in told.items()
    ).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
