"""Ollama servers, real or emulated, registries and mirrors as child processes on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.ollama import binary

_EMULATOR = Path(__file__).parent / "emulator" / "__main__.py"
_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_LISTENING = re.compile(r"(?:Listening on (\S+:\d+) |serving on (\S+ port \d+)\n)")
_OWN_VARIABLES = re.compile(r"(OLLAMA|EMULATOR)_|(HTTPS?_PROXY|NO_PROXY)$", re.IGNORECASE)


class NotStarted(Exception):  # noqa: N818
    """A program that did not come up; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it answers, its process, and the directory it lives in."""

    url: str
    kind: str
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def models(self) -> Path:
        """Its model store."""
        return self.directory / "models"

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.directory / "log").read_text(errors="replace")

    def kill(self) -> None:
        """End it at once, with its runner processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def command(kind: str) -> list[str]:
    """The command that starts a `real` or `emulator` server; raises NotStarted."""
    if kind == "emulator":
        return [sys.executable, str(_EMULATOR)]
    found = binary.find()
    if found is None:
        raise NotStarted("no real ollama here; build it with: python -m dev.ollama.binary")
    return [str(found), "serve"]


@contextmanager
def server(kind: str, directory: Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a server with its home in `directory`, on a free port unless `env` says where."""
    directory.mkdir(parents=True, exist_ok=True)
    inherited = {k: v for k, v in os.environ.items() if not _OWN_VARIABLES.match(k)}
    variables = {
        **inherited,
        "HOME": str(directory),
        "OLLAMA_HOST": "127.0.0.1:0",
        "OLLAMA_MODELS": str(directory / "models"),
        **(env or {}),
    }
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(kind), env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        address = _wait_for_address(process, log)
        yield Server(f"http://{address}", kind, directory, process)
    finally:
        _stop(process)


@contextmanager
def registry(*arguments: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a registry of stand-ins; gives its URL, and the environment that leads to it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dev.ollama.registry", *arguments],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise NotStarted("the registry did not start")
        answer = json.loads(line)
        yield answer["url"], answer["environment"]
    finally:
        _stop(process)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def mirror(
    directory: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a mirror with its store in `directory`, on a free port."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ollama_fleet.mirror.main", "--host=127.0.0.1", "--port=0"]
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--directory={directory}", *arguments],
            env={**os.environ, **(env or {})},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        address = _wait_for_address(process, log).replace(" port ", ":")
        yield Server(f"http://{address}", "mirror", directory, process)
    finally:
        _stop(process)


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace")
        match = _LISTENING.search(text)
        if match:
            return match[1] or match[2]
        if process.poll() is not None:
            break
        time.sleep(0.01)
    raise NotStarted(f"{_program(process.args)} did not start: {text.strip()[-500:]}")


def _program(args: object) -> str:
    return " ".join(map(str, args)) if isinstance(args, Sequence) else str(args)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process group: Ollama's runners outlive a killed server."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
