"""What only the emulator shows: GPU memory, evictions, queues, speeds."""

from __future__ import annotations

import asyncio
import time

import httpx2
import pytest

from dev.ollama.library import answer
from ollama_fleet.ollama.errors import Busy, Unreachable
from tests.component.ollama.emulating import GIB, HELLO, Start, chat, resident, stats
from tests.component.ollama.waiting import until


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
    async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=0.5) as http:
        body = {"model": "llama3.2:1b", "messages": HELLO, "stream": False}
        with pytest.raises(httpx2.ReadTimeout):
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
