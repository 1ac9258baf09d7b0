"""A stand-in for the fleet API, strict about what it is sent; agents as child processes."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REQUIRED = {"machine_name": str, "ip_address": str, "ollama_version": str, "ollama_port": int}
OPTIONAL = {"gpu_model": str, "gpu_memory_bytes": int, "gpu_count": int}
HEALTH = {"agent_id": str, "cpu_usage": float, "memory_usage": float, "active_requests": int}
MORE = {"disk_usage": float, "ollama_status": str}


class Fleet:
    """What the fleet API was asked, and how it answers."""

    def __init__(self) -> None:
        self.agents: dict[tuple[str, int], dict[str, Any]] = {}
        self.reports: list[dict[str, Any]] = []
        self.registrations: list[dict[str, Any]] = []
        self.others: list[str] = []
        self.wrong: list[str] = []
        self.token = ""
        self.requests = 0
        self.answers_instead: tuple[int, dict[str, str], bytes] | None = None

    def answer(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, Any]:
        """By the contract."""
        if self.token and authorization != f"Bearer {self.token}":
            return 401, {"error": f"who are you? not '{authorization}'\nFORGED LINE"}
        if (method, path) == ("POST", "/api/agents"):
            self.wrong += misfits(body, REQUIRED, OPTIONAL)
            self.registrations.append(body)
            key = (body["machine_name"], body["ollama_port"])
            status = 200 if key in self.agents else 201
            self.agents[key] = body
            return status, {"agent_id": self._id(key), "status": "registered"}
        if (method, path) == ("POST", "/api/health"):
            self.wrong += misfits(body, HEALTH, MORE)
            self.wrong += [
                name for name, value in body.items() if name.endswith("_usage") and value > 100
            ]
            if body["agent_id"] not in map(self._id, self.agents):
                return 404, {"error": "no such agent"}
            self.reports.append(body)
            return 204, None
        self.others.append(f"{method} {path}")
        return 404, {"error": "no such call"}

    @staticmethod
    def _id(key: tuple[str, int]) -> str:
        return f"fleet.{key[0]}-{key[1]}"


def misfits(
    body: Mapping[str, Any], required: Mapping[str, type], optional: Mapping[str, type]
) -> list[str]:
    """What in a body is not as the contract has it; a whole number is a float as well."""
    known = {**required, **optional}
    wrong = [f"{name} is missing" for name in required if name not in body]
    for name, value in body.items():
        kinds = (int, float) if known.get(name) is float else (known.get(name, bytes),)
        if type(value) not in kinds:
            wrong.append(f"{name}: {value!r}")
    return wrong


@contextmanager
def serving(fleet: Fleet, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve it; gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

        def do_POST(self) -> None:
            fleet.requests += 1
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "{}")
            if fleet.answers_instead is not None:
                status, headers, content = fleet.answers_instead
            else:
                authorization = self.headers.get("authorization", "")
                status, told = fleet.answer(self.command, self.path, authorization, body)
                headers, content = {}, b"" if told is None else json.dumps(told).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_DELETE(self) -> None:
            self.do_POST()

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that trusts nobody leaves early."""

    with Server(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Running:
    """An agent."""

    def __init__(self, popen: subprocess.Popen[bytes], path: Path) -> None:
        self.popen = popen
        self._path = path

    @property
    def log(self) -> str:
        return self._path.read_text()

    def times(self, pattern: str) -> int:
        return len(re.findall(pattern, self.log))


def program(directory: Path, name: str, script: str) -> Path:
    """A program on the PATH that `agent` gives, as a shell script."""
    path = directory / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@contextmanager
def agent(directory: Path, url: str, ollama: str, **settings: str) -> Iterator[Running]:
    """Run an agent of the machine `box`; it leaves no traceback."""
    log = directory / "agent.log"
    env = {
        "PATH": f"{directory / 'bin'}:/usr/bin:/bin",
        "HOME": str(directory),
        "COORDINATOR_URL": url,
        "OLLAMA_PORT": ollama.rsplit(":", 1)[-1],
        "OLLAMA_AGENT_MACHINE_NAME": "box",
        "OLLAMA_AGENT_IP_ADDRESS": "127.0.0.1",
        "COORDINATOR_REGISTER_RETRY_SECS": "0.1",
        "COORDINATOR_HEALTH_INTERVAL_SECS": "1",
        **settings,
    }
    program = str(Path(sys.executable).parent / "ollama-fleet-agent")
    with log.open("wb") as output:
        popen = subprocess.Popen([program], env=env, stdout=output, stderr=output, cwd=os.sep)
    try:
        yield Running(popen, log)
    finally:
        popen.terminate()
        popen.wait(10)
    assert "Traceback" not in log.read_text()
