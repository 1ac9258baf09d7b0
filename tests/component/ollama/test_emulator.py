"""What only the emulator shows: GPU memory, evictions, queues, speeds, faults on demand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from dev.ollama import process
from dev.ollama.library import answer
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import Busy, OllamaResponseError, PullFailed, Unreachable
from ollama_fleet.ollama.registry import RegistryClient
from tests.component.ollama.waiting import until

HELLO = [{"role": "user", "content": "hello"}]
GIB = 2**30
BASE = {
    "OLLAMA_CONTEXT_LENGTH": "4096",
    "EMULATOR_GPU_MEMORY": "12Gi",
    "EMULATOR_LOAD_BYTES_PER_SECOND": "100G",
    "EMULATOR_TOKENS_PER_SECOND": "1000",
    "EMULATOR_MODELS": "llama3.1:8b,llama3.2:1b,llama3.2:3b,qwen3:4b,gpt-oss:20b,all-minilm",
}


class Start(Protocol):
    def __call__(self, **env: str) -> OllamaClient: ...


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts emulators; each call gives a client of a new one."""
    running: list[tuple[AbstractContextManager[process.Server], OllamaClient]] = []

    def begin(**env: str) -> OllamaClient:
        directory = tmp_path / str(len(running))
        context = process.server("emulator", directory, {**BASE, **env})
        client = OllamaClient(context.__enter__().url, timeout=10)
        running.append((context, client))
        return client

    yield begin
    for context, client in running:
        await client.close()
        context.__exit__(None, None, None)


async def stats(client: OllamaClient) -> dict[str, Any]:
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        return dict((await http.get(f"{client.base_url}/_emulator/stats")).json())


async def fault(client: OllamaClient, **values: Any) -> int:
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        answer = await http.post(f"{client.base_url}/_emulator/faults", json=values)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])


async def chat(client: OllamaClient, model: str, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=10) as http:
        whole = {"model": model, "messages": HELLO, "stream": False, **body}
        return await http.post(f"{client.base_url}/api/chat", json=whole)


async def resident(client: OllamaClient) -> dict[str, tuple[int, int]]:
    return {model.name: (model.size, model.size_vram) for model in await client.ps()}


async def test_a_loaded_model_takes_memory(start: Start) -> None:
    client = start()
    assert (await chat(client, "llama3.1:8b")).json()["message"]["content"] == answer("llama3.1:8b")
    size, on_gpu = (await resident(client))["llama3.1:8b"]
    cache = 4096 * 32 * 8 * (128 + 128) * 2
    buffer = 4 * 512 * (128256 + 4096)
    assert on_gpu == size
    assert size == pytest.approx(4_920_000_000 + cache + buffer, rel=0.001)


async def test_slots_multiply_the_cache(start: Start) -> None:
    one, four = start(), start(OLLAMA_NUM_PARALLEL="4")
    for client in (one, four):
        await client.load("llama3.1:8b")
    sizes = [(await resident(client))["llama3.1:8b"][0] for client in (one, four)]
    assert sizes[1] - sizes[0] == 3 * 4096 * 32 * 8 * 256 * 2


async def test_a_model_that_does_not_fit_evicts_the_idle_one_used_longest_ago(
    start: Start,
) -> None:
    client = start()
    for model in ("llama3.2:3b", "llama3.2:1b", "qwen3:4b"):
        await chat(client, model)
    assert set(await resident(client)) == {"llama3.2:3b", "llama3.2:1b", "qwen3:4b"}
    await chat(client, "llama3.2:3b")
    await chat(client, "llama3.1:8b")
    assert set(await resident(client)) == {"llama3.2:3b", "llama3.1:8b"}
    counters = await stats(client)
    assert (counters["loads"], counters["evictions"]) == (4, 2)


async def test_a_model_kept_for_good_goes_last(start: Start) -> None:
    client = start()
    await client.load("llama3.2:3b", keep_alive=-1)
    await client.load("qwen3:4b", keep_alive="5m")
    await client.load("llama3.1:8b", keep_alive="5m")
    assert set(await resident(client)) == {"llama3.2:3b", "llama3.1:8b"}


async def test_a_model_too_big_for_the_gpu_spills(start: Start) -> None:
    client = start()
    await client.load("gpt-oss:20b")
    size, on_gpu = (await resident(client))["gpt-oss:20b"]
    assert on_gpu == 12 * GIB - GIB // 2 < size


async def test_a_server_without_a_gpu_reports_no_gpu_memory(start: Start) -> None:
    client = start(EMULATOR_GPU_MEMORY="0")
    await client.load("llama3.1:8b")
    assert (await resident(client))["llama3.1:8b"][1] == 0


async def test_another_context_length_loads_the_model_anew(start: Start) -> None:
    client = start()
    await chat(client, "llama3.2:1b")
    await chat(client, "llama3.2:1b")
    assert (await stats(client))["loads"] == 1
    await chat(client, "llama3.2:1b", options={"num_ctx": 8192})
    assert (await stats(client))["loads"] == 2
    assert (await client.ps())[0].context_length == 8192


async def test_no_more_models_than_allowed(start: Start) -> None:
    client = start(OLLAMA_MAX_LOADED_MODELS="1")
    await client.load("llama3.2:1b")
    await client.load("llama3.2:3b")
    assert set(await resident(client)) == {"llama3.2:3b"}


async def test_a_busy_model_holds_up_all_loads_behind_it(start: Start) -> None:
    client = start(OLLAMA_MAX_LOADED_MODELS="1", EMULATOR_TOKENS_PER_SECOND="1")
    busy = asyncio.create_task(chat(client, "llama3.2:1b"))

    async def generating() -> bool:
        return bool((await stats(client))["generating"])

    await until(generating, "the first model is busy")
    loads = [asyncio.create_task(client.load(m)) for m in ("llama3.2:3b", "qwen3:4b")]
    done, _ = await asyncio.wait(loads, timeout=0.2)
    assert not done
    assert set(await resident(client)) == {"llama3.2:1b"}
    busy.cancel()
    await asyncio.gather(*loads)
    assert set(await resident(client)) == {"qwen3:4b"}


async def test_more_waiting_loads_than_the_queue_holds_are_refused(start: Start) -> None:
    client = start(
        OLLAMA_MAX_LOADED_MODELS="1", OLLAMA_MAX_QUEUE="1", EMULATOR_LOAD_BYTES_PER_SECOND="4G"
    )
    first = asyncio.create_task(client.load("llama3.1:8b"))

    async def loading() -> bool:
        return bool((await stats(client))["requests"].get("/api/generate") == 1)

    await until(loading, "the first load is in hand")
    second = asyncio.create_task(client.load("llama3.2:1b"))

    async def waiting() -> bool:
        return bool((await stats(client))["requests"].get("/api/generate") == 2)

    await until(waiting, "the second load waits")
    with pytest.raises(Busy, match="maximum pending requests exceeded"):
        await client.load("llama3.2:3b")
    await asyncio.gather(first, second)


async def test_slots_work_side_by_side(start: Start) -> None:
    client = start(OLLAMA_NUM_PARALLEL="2", EMULATOR_TOKENS_PER_SECOND="100")
    await client.load("llama3.2:1b")
    tasks = [asyncio.create_task(chat(client, "llama3.2:1b")) for _ in range(3)]
    highest = 0

    async def two() -> bool:
        nonlocal highest
        highest = max(highest, int((await stats(client))["generating"]))
        return highest == 2

    await until(two, "two generate at once")
    assert {answer.status_code for answer in await asyncio.gather(*tasks)} == {200}
    assert highest == 2


async def test_a_load_takes_its_time_and_ends_with_its_client(start: Start) -> None:
    client = start(EMULATOR_LOAD_BYTES_PER_SECOND="5G")
    with pytest.raises(Unreachable):
        await client.load("llama3.1:8b", timeout=0.3)

    async def aborted() -> bool:
        return bool((await stats(client))["aborted_loads"] == 1)

    await until(aborted, "the load is aborted")
    assert await resident(client) == {}
    began = time.monotonic()
    await client.load("llama3.1:8b")
    assert time.monotonic() - began > 0.9


async def test_leaving_frees_the_slot(start: Start) -> None:
    client = start(EMULATOR_TOKENS_PER_SECOND="10")
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=0.5) as http:
        body = {"model": "llama3.2:1b", "messages": HELLO, "stream": False}
        with pytest.raises(httpx.ReadTimeout):
            await http.post(f"{client.base_url}/api/chat", json=body)
    response = await chat(client, "llama3.2:1b", options={"num_predict": 1})
    assert response.json()["eval_count"] == 1
    assert (await stats(client))["aborted"] == 1


async def test_a_known_prompt_costs_less(start: Start) -> None:
    client = start()
    messages = [{"role": "user", "content": "word " * 400}]
    await chat(client, "llama3.2:1b", messages=messages)
    more = [*messages, {"role": "assistant", "content": "so"}, *HELLO]
    await chat(client, "llama3.2:1b", messages=more)
    counters = await stats(client)
    assert 500 <= counters["cached_prompt_tokens"] <= counters["prompt_tokens"] - 500


async def test_tokens_come_at_the_set_speed(start: Start) -> None:
    client = start(EMULATOR_TOKENS_PER_SECOND="50")
    answer = (await chat(client, "llama3.2:1b", options={"num_predict": 25})).json()
    assert answer["eval_duration"] >= 0.5e9


async def test_faults_strike_by_path_and_model(start: Start) -> None:
    client = start()
    await fault(client, kind="busy", path="/api/chat", model="llama3.2:1b", count=1)
    assert (await chat(client, "llama3.2:3b")).status_code == 200
    busy = await chat(client, "llama3.2:1b")
    assert busy.status_code == 503
    assert busy.json() == {
        "error": "server busy, please try again.  maximum pending requests exceeded"
    }
    assert (await chat(client, "llama3.2:1b")).status_code == 200
    number = await fault(client, kind="error", status=500, message="llama runner has gone")
    with pytest.raises(OllamaResponseError, match="llama runner has gone"):
        await client.tags()
    async with httpx.AsyncClient(verify=False, trust_env=False, base_url=client.base_url) as http:
        listed = (await http.get("/_emulator/faults")).json()["faults"]
        assert [item["kind"] for item in listed] == ["error"]
        await http.delete(f"/_emulator/faults/{number}")
        bad = await http.post("/_emulator/faults", json={"kind": "flood"})
        assert bad.status_code == 400
        assert "no fault 'flood'" in bad.json()["error"]
    assert await client.tags()


async def test_a_slow_first_byte(start: Start) -> None:
    client = start()
    await fault(client, kind="slow_first_byte", seconds=0.5, path="/api/version", count=1)
    began = time.monotonic()
    await client.version()
    assert time.monotonic() - began >= 0.5


async def test_a_hang(start: Start) -> None:
    client = start()
    await fault(client, kind="hang", path="/api/version")
    async with OllamaClient(client.base_url, timeout=0.3) as impatient:
        with pytest.raises(Unreachable, match="did not answer in time"):
            await impatient.version()
        assert await impatient.tags()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_cut_stream(start: Start, path: str) -> None:
    client = start()
    await fault(client, kind="cut_stream", chunks=3, count=1)
    lines = []
    async with httpx.AsyncClient(verify=False, trust_env=False, base_url=client.base_url) as http:
        body = {"model": "llama3.2:1b", "messages": HELLO, "stream": True}
        with pytest.raises(httpx.RemoteProtocolError):
            async with http.stream("POST", path, json=body) as response:
                lines += [line async for line in response.aiter_lines() if line]
    assert len(lines) <= 3


async def test_a_stream_that_ends_without_done(start: Start) -> None:
    client = start()
    await fault(client, kind="end_stream", chunks=3, count=1)
    async with httpx.AsyncClient(verify=False, trust_env=False, base_url=client.base_url) as http:
        response = await http.post("/api/chat", json={"model": "llama3.2:1b", "messages": HELLO})
    assert [json.loads(line)["done"] for line in response.text.splitlines()] == [False] * 3


async def test_an_error_in_a_stream(start: Start) -> None:
    client = start()
    await fault(client, kind="stream_error", chunks=2, message="out of memory", count=1)
    async with httpx.AsyncClient(verify=False, trust_env=False, base_url=client.base_url) as http:
        response = await http.post("/api/chat", json={"model": "llama3.2:1b", "messages": HELLO})
    assert response.status_code == 200
    assert json.loads(response.text.splitlines()[-1]) == {"error": "out of memory"}


async def test_a_wedged_model(start: Start) -> None:
    client = start()
    await client.load("llama3.2:1b")
    await fault(client, kind="wedge", model="llama3.2:1b")
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=0.3) as http:
        body = {"model": "llama3.2:1b", "messages": HELLO}
        with pytest.raises(httpx.ReadTimeout):
            await http.post(f"{client.base_url}/api/chat", json=body)
    for call in (client.tags(), client.ps(), client.show("llama3.2:1b")):
        assert await call
    assert (await chat(client, "llama3.2:3b")).status_code == 200


async def test_a_crash_at_once_and_on_request(start: Start) -> None:
    at_once, on_request = start(), start()
    await fault(at_once, kind="crash")

    async def dead() -> bool:
        try:
            await at_once.version()
        except Unreachable:
            return True
        return False

    await until(dead, "the process has exited")
    await fault(on_request, kind="crash", path="/api/chat")
    await on_request.version()
    with pytest.raises(httpx.TransportError):
        await chat(on_request, "llama3.2:1b")
    with pytest.raises(Unreachable):
        await on_request.version()


@pytest.fixture(scope="module")
def sized_registry() -> Iterator[dict[str, str]]:
    """A registry whose models have their real sizes."""
    with process.registry("--form", "sized") as (_, environment):
        yield environment


async def test_a_big_model_is_pulled_at_the_set_speed(
    start: Start, sized_registry: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(**sized_registry, EMULATOR_MODELS="", EMULATOR_PULL_BYTES_PER_SECOND="20G")
    for name, value in sized_registry.items():
        monkeypatch.setenv(name, value)
    async with RegistryClient() as registry:
        manifest = await registry.manifest("gpt-oss:20b")
    assert manifest.size == pytest.approx(13.79e9, rel=0.001)
    began = time.monotonic()
    lines = [line async for line in client.pull("gpt-oss:20b")]
    assert time.monotonic() - began > 0.6
    seen = [line.completed for line in lines if line.total > 10**9]
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    model = (await client.tags())[0]
    assert (model.name, model.digest, model.size) == (
        "gpt-oss:20b",
        manifest.digest,
        manifest.size,
    )
    assert (await client.show("gpt-oss:20b")).model_info["gptoss.block_count"] == 24


async def test_a_killed_server_resumes_its_pull(
    tmp_path: Path, sized_registry: dict[str, str]
) -> None:
    env = {**sized_registry, "EMULATOR_PULL_BYTES_PER_SECOND": "4G"}
    with process.server("emulator", tmp_path, env) as first:
        async with OllamaClient(first.url) as client:
            lines = client.pull("gpt-oss:20b")
            while (await anext(lines)).completed < 5 * 10**9:
                pass
            first.kill()
            with pytest.raises(Unreachable):
                _ = [line async for line in lines]
    with process.server("emulator", tmp_path, env) as second:
        async with OllamaClient(second.url) as client:
            again = [line async for line in client.pull("gpt-oss:20b")]
            assert next(line.completed for line in again if line.total) > 2 * 10**9
            assert again[-1].status == "success"


async def test_a_stuck_pull_resumes_after_it_is_left(
    start: Start, sized_registry: dict[str, str]
) -> None:
    client = start(**sized_registry, EMULATOR_MODELS="")
    await fault(client, kind="stuck_pull", count=1)
    last = 0
    async for line in client.pull("gpt-oss:20b"):
        if line.total and line.completed == last and line.completed >= 0.98 * line.total:
            break
        last = line.completed
    assert await client.tags() == []
    lines = [line async for line in client.pull("gpt-oss:20b")]
    assert next(line.completed for line in lines if line.total) >= 0.98 * 13.79e9
    assert lines[-1].status == "success"


@pytest.mark.parametrize(
    ("kind", "message"),
    [("disk_full", "no space left on device"), ("digest_mismatch", "digest mismatch")],
)
async def test_a_failed_pull(
    start: Start, sized_registry: dict[str, str], kind: str, message: str
) -> None:
    client = start(**sized_registry, EMULATOR_MODELS="")
    await fault(client, kind=kind, count=1, fraction=0.5)
    with pytest.raises(PullFailed, match=message):
        async for _ in client.pull("gpt-oss:20b"):
            pass
    assert await client.tags() == []
    assert [line async for line in client.pull("gpt-oss:20b")][-1].status == "success"
