"""The program itself, in front of emulated Ollama servers."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import yaml

from dev.ollama import process
from tests.component.router.peers import eventually

MODEL = "llama3.2:1b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
SERVERS = 3
NO_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=0)


class Program:
    """A running `ollama-fleet-router`."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.popen = popen
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def url(self) -> str:
        match = re.search(r"serving on 127.0.0.1 port (\d+)", self.log)
        return f"http://127.0.0.1:{match[1]}" if match else ""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[process.Server]]:
    env = {
        "EMULATOR_MODELS": MODEL,
        "EMULATOR_TOKENS_PER_SECOND": "100",
        "EMULATOR_ANSWER_TOKENS": "30",
        "EMULATOR_LOAD_BYTES_PER_SECOND": "20G",
        "OLLAMA_NUM_PARALLEL": "32",
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(process.server("emulator", tmp_path / f"s{index}", env))
            for index in range(SERVERS)
        ]


@asynccontextmanager
async def program(path: Path, urls: list[str], *more: str) -> AsyncIterator[Program]:
    config = path / "router.yaml"
    config.write_text(yaml.safe_dump({"backends": [{"url": url} for url in urls]}))
    log = path / "log"
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", "0"]
    arguments += ["--metrics-port", "0", "--drain-pause", "0", "--drain-timeout", "20"]
    arguments += more
    with log.open("wb") as output:
        popen = subprocess.Popen(  # noqa: ASYNC220 - waited for below
            [sys.executable, "-m", "ollama_fleet.router.main", *arguments],
            stdout=output,
            stderr=output,
        )
    running = Program(popen, log)
    try:
        await eventually(lambda: running.url or popen.poll() is not None)
        assert popen.poll() is None, running.log
        await eventually(lambda: running.log.count("is ready: Ollama") == len(urls))
        yield running
    finally:
        popen.kill()
        popen.wait()


async def stream(client: httpx2.AsyncClient, path: str, body: object) -> tuple[int, list[str]]:
    """Status and lines of a streamed answer; what was cut off ends the list early."""
    lines: list[str] = []
    async with client.stream("POST", path, json=body) as answer:
        try:
            async for line in answer.aiter_lines():
                lines += [line] if line else []
        except httpx2.RemoteProtocolError:
            lines.append("cut")
        return answer.status_code, lines


async def test_every_form_of_answer(servers: list[process.Server], tmp_path: Path) -> None:
    async with (
        program(tmp_path, [server.url for server in servers]) as router,
        httpx2.AsyncClient(base_url=router.url, timeout=30, trust_env=False) as client,
    ):
        whole = (await client.post("/api/chat", json=CHAT | {"stream": False})).json()
        assert (whole["done"], whole["eval_count"]) == (True, 30)
        _, lines = await stream(client, "/api/chat", CHAT)
        assert json.loads(lines[-1])["done"] is True
        assert len(lines) == 31
        generated = {"model": MODEL, "prompt": "hi"}
        _, lines = await stream(client, "/api/generate", generated)
        assert json.loads(lines[-1])["done"] is True
        _, lines = await stream(client, "/v1/chat/completions", CHAT | {"stream": True})
        assert lines[-1] == "data: [DONE]"
        answer = (await client.post("/v1/chat/completions", json=CHAT)).json()
        assert answer["object"] == "chat.completion"
        message = (await client.post("/v1/messages", json=CHAT | {"max_tokens": 20})).json()
        assert message["type"] == "message"
        shown = (await client.post("/api/show", json={"model": MODEL})).json()
        assert "model_info" in shown


async def test_a_killed_server_costs_only_the_streams_it_had_begun(
    servers: list[process.Server], tmp_path: Path
) -> None:
    async with (
        program(tmp_path, [server.url for server in servers]) as router,
        httpx2.AsyncClient(
            base_url=router.url, timeout=30, trust_env=False, limits=NO_LIMITS
        ) as client,
    ):
        answered = 0

        async def one() -> tuple[int, list[str]]:
            nonlocal answered
            found = await stream(client, "/api/chat", CHAT)
            answered += 1
            return found

        first = [asyncio.create_task(one()) for _ in range(60)]
        await eventually(lambda: answered >= 5)
        second = [asyncio.create_task(one()) for _ in range(40)]
        servers[0].kill()
        third = [asyncio.create_task(one()) for _ in range(40)]
        answers = await asyncio.gather(*first, *second, *third)
        assert {status for status, _ in answers} == {200}
        # Whatever failed had begun: a line had come before the cut.
        cut = [lines for _, lines in answers if lines[-1] == "cut"]
        assert all(len(lines) > 1 for lines in cut)
        whole = [lines for _, lines in answers if lines[-1] != "cut"]
        assert all(json.loads(lines[-1])["done"] for lines in whole)
        assert len(whole) >= 80


async def test_sigterm_lets_streams_finish_and_exits_with_0(
    servers: list[process.Server], tmp_path: Path
) -> None:
    async with (
        program(tmp_path, [servers[0].url]) as router,
        httpx2.AsyncClient(base_url=router.url, timeout=30, trust_env=False) as client,
    ):
        lines = 0
        async with client.stream("POST", "/api/chat", json=CHAT) as answer:
            async for line in answer.aiter_lines():
                if lines == 0:
                    router.popen.send_signal(signal.SIGTERM)
                lines += 1
                last = line
        assert json.loads(last)["done"] is True
        await eventually(lambda: router.popen.poll() is not None)
        assert router.popen.returncode == 0
        assert "0 requests were cut off" in router.log


async def test_a_client_that_leaves_frees_the_server(
    servers: list[process.Server], tmp_path: Path
) -> None:
    async with (
        program(tmp_path, [servers[0].url]) as router,
        httpx2.AsyncClient(base_url=router.url, timeout=30, trust_env=False) as client,
        httpx2.AsyncClient(base_url=servers[0].url, trust_env=False) as emulator,
    ):
        async with client.stream("POST", "/api/chat", json=CHAT) as answer:
            await anext(answer.aiter_lines())
        left = asyncio.get_running_loop().time()
        stats: dict[str, int] = {}
        while stats.get("aborted", 0) != 1:
            stats = (await emulator.get("/_emulator/stats")).json()
            assert asyncio.get_running_loop().time() - left < 5, stats


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("backends:\n- {url: nowhere}\n", "backends.0.url: "),
        ("retry: {attempts: none}\n", "retry.attempts: "),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    config = tmp_path / "router.yaml"
    config.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "ollama_fleet.router.main", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"ollama-fleet-router: {config}: {told}")
    assert done.stderr.count("\n") == 1
