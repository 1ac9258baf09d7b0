"""The router on one machine: its file, followed, checked, and the guide's example."""

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from dev.ollama import process
from ollama_fleet.router.alone import Following, url_of, who_answers
from ollama_fleet.router.config import load
from ollama_fleet.router.settings import Settings
from tests.component.router.conftest import QUICK, Running, Serve, Start
from tests.component.router.peers import Backend, chat, eventually, say

GUIDES = Path(__file__).parents[3] / "docs" / "guides"
GUIDE = (GUIDES / "laptop.md").read_text()
SAMPLE = GUIDES / "laptop.yaml"
FAST = 0.02


def put(path: Path, *backends: Backend, **spec: Any) -> None:
    """Write the settings as editors do: beside the file, then in its place."""
    urls = [{"url": backend.url} for backend in backends]
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump({**QUICK, "backends": urls, **spec}))
    new.replace(path)


@asynccontextmanager
async def following(router: Running, path: Path, poll: float = FAST) -> AsyncIterator[Following]:
    made = Following(router.router, path, load, poll)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_changed_file_is_in_effect_without_a_restart(
    start: Start, serve: Serve, tmp_path: Path
) -> None:
    old, new = await serve(say(b"old")), await serve(say(b"new"))
    path = tmp_path / "router.yaml"
    put(path, old)
    router = await start(old)
    (known,) = router.router.fleet.snapshot.servers
    known.load.breaker.failed(0.0)
    async with following(router, path):
        put(path, old, health={"breaker": {"failures": 1, "cooldown": "9s", "maxCooldown": "9s"}})
        await eventually(lambda: router.router.settings.failures == 1)
        assert known.load.breaker.state(0.0).name == "HALF_OPEN"
        known.load.breaker.failed(0.0)
        assert known.load.breaker.open_until == 9.0

        put(path, new, strategy={"type": "RoundRobin"}, limits={"bodyBytes": "1Ki"})
        await eventually(lambda: router.router.settings.strategy == "RoundRobin")
        await eventually(lambda: router.router.fleet.snapshot.ready)
        assert (await chat(router.port)).body == b"new"
        assert (await chat(router.port, b" " * 2000)).status == 413


async def test_a_bad_file_changes_nothing_and_says_so_once(
    start: Start, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ollama_fleet.router.alone")
    backend = await serve()
    path = tmp_path / "router.yaml"
    put(path, backend)
    router = await start(backend)
    before = router.router.settings
    async with following(router, path):
        put(path, backend, strategy={"type": "Random"})
        await eventually(lambda: caplog.messages)
        (told,) = caplog.messages
        assert told.startswith(f"{path}: strategy.type: ")
        assert told.endswith("; the last good settings stay")
        path.unlink()
        assert router.router.settings is before
        assert (await chat(router.port)).status == 200
        put(path, backend, retry={"attempts": 5})
        await eventually(lambda: router.router.settings.attempts == 5)
    assert caplog.messages[1:] == [f"{path} is in effect: 1 server"]


async def test_a_signal_reads_the_file_at_once(start: Start, serve: Serve, tmp_path: Path) -> None:
    backend = await serve()
    path = tmp_path / "router.yaml"
    put(path, backend)
    router = await start(backend)
    async with following(router, path, poll=3600) as file:
        put(path, backend, retry={"attempts": 7})
        file.reload()
        await eventually(lambda: router.router.settings.attempts == 7)


async def test_a_file_that_is_being_written_is_not_read(
    start: Start, serve: Serve, tmp_path: Path
) -> None:
    backend = await serve()
    path = tmp_path / "router.yaml"
    put(path, backend)
    router = await start(backend)
    read: list[str] = []

    def reading(path: Path) -> Settings:
        read.append(path.read_text())
        return load(path)

    file = Following(router.router, path, reading)
    text = path.read_text() + "retry: {attempts: 9}\n"
    for end in (0, 10, len(text)):
        path.write_text(text[:end])
        os.utime(path, ns=(end, end))
        file.look()
    path.unlink()
    file.look()
    file.look()
    assert read == []
    path.write_text(text)
    file.look()
    file.look()
    file.look()
    assert read == [text]
    assert router.router.settings.attempts == 9


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://localhost:1"),
        ("::", "http://localhost:1"),
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("::1", "http://[::1]:1"),
    ],
)
def test_the_url_is_one_that_works_here(host: str, url: str) -> None:
    assert url_of(host, 1) == url


async def test_who_does_not_answer_is_named(start: Start, serve: Serve) -> None:
    here, gone = await serve(models=["m:latest", "n:1b"]), await serve()
    await gone.stop()
    router = await start(here, gone)
    told = who_answers(router.router.fleet.snapshot, "http://localhost:1")
    assert told == (
        f"http://localhost:1 leads to 1 of 2 servers, 2 models; no answer from {gone.url}"
    )


# the program


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ollama_fleet.router.main", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("backends:\n- {url: http://a}\n- {url: http://b}\n", 0, "{path}: good, 2 servers\n"),
        ("backends:\n- {url: http://a}\n", 0, "{path}: good, 1 server\n"),
        ("backends: {}\n", 2, "ollama-fleet-router: {path}: backends: "),
        ("backend: []\n", 2, "ollama-fleet-router: {path}: backend: there is no such field\n"),
        (None, 2, "ollama-fleet-router: {path}: cannot be read: "),
    ],
)
def test_a_check_says_what_is_wrong(tmp_path: Path, text: str | None, code: int, told: str) -> None:
    path = tmp_path / "router.yaml"
    if text is not None:
        path.write_text(text)
    done = run("--config", str(path), "--check")
    assert done.returncode == code
    said = done.stderr if code else done.stdout
    assert said.startswith(told.format(path=path))
    assert said.count("\n") == 1
    assert not (done.stdout if code else done.stderr)


def test_a_taken_port_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text("backends: []\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--config", str(path), "--host", "127.0.0.1", "--port", str(port))
    assert done.returncode == 2
    told = f"port {port} is taken, perhaps by an Ollama: choose another with --port"
    assert done.stderr.splitlines()[-1] == f"ollama-fleet-router: {told}"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, process.Server]]:
    """The guide's servers, each with its model, emulated: by port."""
    ports = re.findall(r"OLLAMA_HOST=127.0.0.1:(\d+) ollama pull (\S+)\n", GUIDE)
    with ExitStack() as stack:
        yield {
            port: stack.enter_context(
                process.server(
                    "emulator",
                    tmp_path / port,
                    {"EMULATOR_MODELS": model, "OLLAMA_MAX_LOADED_MODELS": "1"},
                )
            )
            for port, model in ports
        }


def test_the_guide_shows_the_sample() -> None:
    shown = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    assert [yaml.safe_load(one) for one in shown] == [yaml.safe_load(SAMPLE.read_text())]
    comments = dict(re.findall(r":(\d+) +# (\S+)", SAMPLE.read_text()))
    assert comments == dict(re.findall(r":(\d+) ollama pull (\S+)\n", GUIDE))
    assert list(comments) == re.findall(r":(\d+) OLLAMA_MODELS=\S+ .* ollama serve &", GUIDE)
    assert [str(one.port) for one in load(SAMPLE).backends] == list(comments)


async def test_the_guides_example_works(servers: dict[str, process.Server], tmp_path: Path) -> None:
    path, log = tmp_path / "laptop.yaml", tmp_path / "log"
    text = SAMPLE.read_text()
    for port, server in servers.items():
        text = text.replace(f"http://127.0.0.1:{port}", server.url)
    path.write_text(text)
    options = ("--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--drain-pause", "0")
    with log.open("wb") as output:
        popen = subprocess.Popen(  # noqa: ASYNC220 - waited for below
            command("--config", str(path), *options), stdout=output, stderr=output
        )
    try:
        await eventually(lambda: " leads to " in log.read_text() or popen.poll() is not None)
        said = re.search(r"(http://\S+) leads to 3 of 3 servers, 3 models\n", log.read_text())
        assert said is not None, log.read_text()
        models = [one.split()[-1] for one in text.splitlines() if "url" in one]
        async with httpx2.AsyncClient(base_url=said[1], timeout=30, trust_env=False) as client:
            for model in models:
                body = {"model": model, "prompt": "hi", "stream": False}
                answer = (await client.post("/api/generate", json=body)).json()
                assert (answer["model"], answer["done"]) == (model, True)

            # one goes: the file follows, and a signal makes it known
            path.write_text(yaml.safe_dump({"backends": load_raw(text)[:2], "accessLog": True}))
            popen.send_signal(signal.SIGHUP)
            await eventually(lambda: "is in effect: 2 servers" in log.read_text())
            tags = (await client.get("/api/tags")).json()["models"]
            assert {one["name"] for one in tags} == set(models[:2])
            await client.post("/api/generate", json={"model": models[0], "prompt": "hi"})
        await eventually(lambda: f'"resolved":"{models[0]}"' in log.read_text())
        popen.send_signal(signal.SIGTERM)
        await eventually(lambda: popen.poll() is not None)
        assert popen.returncode == 0
        assert "Traceback" not in log.read_text()
    finally:
        popen.kill()
        popen.wait()


def load_raw(text: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = yaml.safe_load(text)["backends"]
    return found
