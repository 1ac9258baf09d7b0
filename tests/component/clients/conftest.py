"""A real Ollama behind a router, for the clients that people have."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import yaml

from dev.ollama import model, process
from tests.cluster.waiting import eventually

CHAT = "llama3.1:8b"
EMBED = "all-minilm:latest"
CALLER = "caller:latest"
NAMES = [
    {"name": "assistant", "targets": [{"model": CHAT}], "defaults": {"num_predict": 5}},
    {"name": "later", "targets": [{"model": "not-yet:1b"}]},
]
SHORT = "I am a stand-in for"
"""What `assistant` says: the first five tokens of what the model says."""

_CALL = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
_CALLING = """{{ range .Tools }}{{ . }}{{ end }}{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}\
{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}\
{{ end }}{{ end }}<|assistant|>"""


@dataclass(frozen=True)
class Fleet:
    """Where tenants and operators reach the router, and the server behind it."""

    url: str
    operators_url: str
    server: process.Server


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("clients")
    env = {"OLLAMA_NUM_PARALLEL": "1", "OLLAMA_CONTEXT_LENGTH": "4096"}
    with (
        process.registry() as (_, environment),
        process.server("real", directory / "server", {**environment, **env}) as server,
    ):
        with httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as http:
            for name in (CHAT, EMBED):
                pulled = http.post("/api/pull", json={"model": name, "stream": False})
                assert pulled.json() == {"status": "success"}
            _create_caller(http)
        with _router(directory, server.url) as (url, operators_url):
            yield Fleet(url, operators_url, server)


def _create_caller(http: httpx2.Client) -> None:
    """A model that answers everything by calling a tool."""
    content = model.speaker("caller", _CALL, 64)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert http.post(f"/api/blobs/{digest}", content=content).status_code == 201
    wanted = {
        "model": CALLER,
        "files": {"caller.gguf": digest},
        "template": _CALLING,
        "parameters": {"num_thread": 1, "temperature": 0},
        "stream": False,
    }
    assert http.post("/api/create", json=wanted).json() == {"status": "success"}


@contextmanager
def _router(directory: Path, server: str) -> Iterator[tuple[str, str]]:
    config = directory / "router.yaml"
    config.write_text(yaml.safe_dump({"backends": [{"url": server}], "models": NAMES}))
    log = directory / "router.log"
    command = [sys.executable, "-m", "ollama_fleet.router.main", "--config", str(config)]
    command += ["--host=127.0.0.1", "--port=0", "--metrics-port=0", "--drain-pause=0"]
    with log.open("wb") as output:
        popen = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield _addresses(popen, log)
    finally:
        popen.send_signal(signal.SIGTERM)
        popen.wait()


def _addresses(popen: subprocess.Popen[bytes], log: Path) -> tuple[str, str]:
    def ready() -> list[str]:
        text = log.read_text()
        assert popen.poll() is None, text
        told = re.findall(r"on 127\.0\.0\.1 port (\d+)", text)
        return told if "is ready: Ollama" in text else []

    url, operators_url = (
        f"http://127.0.0.1:{port}" for port in eventually("the router is up", ready, within=20)
    )
    return url, operators_url
