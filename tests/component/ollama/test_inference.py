"""Chat, generate, embeddings, in the shapes of Ollama, OpenAI and Anthropic."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import httpx2
import pytest

from dev.ollama.library import answer
from tests.component.ollama.conftest import CHAT, EMBED

SENTENCE = answer(CHAT)
HELLO = [{"role": "user", "content": "hello"}]
FINAL_KEYS = {
    "model",
    "created_at",
    "done",
    "done_reason",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}


async def stream(
    http: httpx2.AsyncClient, path: str, body: dict[str, Any]
) -> tuple[str, list[str]]:
    async with http.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        lines = [line async for line in response.aiter_lines() if line]
        return response.headers["content-type"], lines


async def test_chat_streams_lines_by_default(http: httpx2.AsyncClient) -> None:
    kind, lines = await stream(http, "/api/chat", {"model": CHAT, "messages": HELLO})
    assert kind == "application/x-ndjson"
    *chunks, last = [json.loads(line) for line in lines]
    assert len(chunks) > 40
    assert "".join(chunk["message"]["content"] for chunk in chunks) == SENTENCE
    assert all(set(c) == {"model", "created_at", "message", "done"} for c in chunks)
    assert not any(chunk["done"] for chunk in chunks)
    assert set(last) == FINAL_KEYS | {"message"}
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["done"] is True
    assert last["done_reason"] == "stop"
    assert last["eval_count"] >= 40


async def test_chat_unstreamed(http: httpx2.AsyncClient) -> None:
    body = {"model": CHAT, "messages": HELLO, "stream": False}
    response = await http.post("/api/chat", json=body)
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    answer = response.json()
    assert set(answer) == FINAL_KEYS | {"message"}
    assert answer["message"] == {"role": "assistant", "content": SENTENCE}
    assert answer["model"] == CHAT


async def test_num_predict_ends_with_length(http: httpx2.AsyncClient) -> None:
    body = {"model": CHAT, "messages": HELLO, "stream": False, "options": {"num_predict": 3}}
    answer = (await http.post("/api/chat", json=body)).json()
    assert answer["done_reason"] == "length"
    assert answer["eval_count"] == 3
    assert answer["message"]["content"] == "I am a"


async def test_generate_streams_lines_by_default(http: httpx2.AsyncClient) -> None:
    kind, lines = await stream(http, "/api/generate", {"model": CHAT, "prompt": "hello"})
    assert kind == "application/x-ndjson"
    *chunks, last = [json.loads(line) for line in lines]
    assert "".join(chunk["response"] for chunk in chunks) == SENTENCE
    assert all(set(c) == {"model", "created_at", "response", "done"} for c in chunks)
    assert set(last) == FINAL_KEYS | {"response", "context"}
    assert last["response"] == ""


async def test_generate_unstreamed(http: httpx2.AsyncClient) -> None:
    body = {"model": CHAT, "prompt": "hello", "stream": False}
    answer = (await http.post("/api/generate", json=body)).json()
    assert set(answer) == FINAL_KEYS | {"response", "context"}
    assert answer["response"] == SENTENCE


async def test_keys_are_read_without_regard_to_case_and_the_last_wins(
    http: httpx2.AsyncClient,
) -> None:
    body = f'{{"model":"nope","MODEL":"{CHAT}","Prompt":"x","STREAM":false}} trailing'
    answer = await http.post("/api/generate", content=body)
    assert answer.json()["model"] == CHAT


async def test_embed_one_and_many(http: httpx2.AsyncClient) -> None:
    one = (await http.post("/api/embed", json={"model": EMBED, "input": "hello"})).json()
    assert set(one) == {
        "model",
        "embeddings",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
    }
    many = (await http.post("/api/embed", json={"model": EMBED, "input": ["hello", "b"]})).json()
    assert len(many["embeddings"]) == 2
    assert many["embeddings"][0] == pytest.approx(one["embeddings"][0], abs=1e-5)
    assert many["embeddings"][0] != pytest.approx(many["embeddings"][1], abs=1e-5)
    assert math.hypot(*one["embeddings"][0]) == pytest.approx(1, abs=1e-4)


async def test_embed_with_fewer_dimensions(http: httpx2.AsyncClient) -> None:
    body = {"model": EMBED, "input": "hello", "dimensions": 5}
    vector = (await http.post("/api/embed", json=body)).json()["embeddings"][0]
    assert len(vector) == 5
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-4)


async def test_embeddings_in_the_older_form(http: httpx2.AsyncClient) -> None:
    body = {"model": EMBED, "prompt": "hello"}
    answer = (await http.post("/api/embeddings", json=body)).json()
    assert set(answer) == {"embedding"}
    assert len(answer["embedding"]) == 64


async def test_a_chat_with_an_embedding_model_is_refused(http: httpx2.AsyncClient) -> None:
    for path, body, verb in (
        ("/api/chat", {"messages": HELLO}, "chat"),
        ("/api/generate", {"prompt": "hello"}, "generate"),
    ):
        response = await http.post(path, json={"model": EMBED, **body})
        assert response.status_code == 400
        assert response.json() == {"error": f'"{EMBED}" does not support {verb}'}


async def test_openai_chat(http: httpx2.AsyncClient) -> None:
    answer = (
        await http.post("/v1/chat/completions", json={"model": CHAT, "messages": HELLO})
    ).json()
    assert set(answer) == {
        "id",
        "object",
        "created",
        "model",
        "system_fingerprint",
        "choices",
        "usage",
    }
    assert answer["object"] == "chat.completion"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": SENTENCE},
            "finish_reason": "stop",
        }
    ]
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_openai_chat_streamed(http: httpx2.AsyncClient) -> None:
    body = {
        "model": CHAT,
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    kind, lines = await stream(http, "/v1/chat/completions", body)
    assert kind == "text/event-stream"
    assert lines[-1] == "data: [DONE]"
    *chunks, last, usage = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    contents = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert "".join(contents) == SENTENCE
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    assert last["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] >= 40
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


async def test_openai_completion(http: httpx2.AsyncClient) -> None:
    body = {"model": CHAT, "prompt": "hello", "max_tokens": 2}
    answer = (await http.post("/v1/completions", json=body)).json()
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"text": "I am", "index": 0, "finish_reason": "length"}]


async def test_openai_completion_streamed(http: httpx2.AsyncClient) -> None:
    body = {"model": CHAT, "prompt": "hello", "stream": True}
    kind, lines = await stream(http, "/v1/completions", body)
    assert kind == "text/event-stream"
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == SENTENCE
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_openai_embeddings(http: httpx2.AsyncClient) -> None:
    body = {"model": EMBED, "input": ["a", "b"]}
    plain = (await http.post("/v1/embeddings", json=body)).json()
    assert plain["object"] == "list"
    assert [item["index"] for item in plain["data"]] == [0, 1]
    assert plain["usage"]["prompt_tokens"] == plain["usage"]["total_tokens"]
    packed = (await http.post("/v1/embeddings", json={**body, "encoding_format": "base64"})).json()
    content = base64.b64decode(packed["data"][0]["embedding"])
    vector = struct.unpack(f"<{len(content) // 4}f", content)
    assert vector == pytest.approx(plain["data"][0]["embedding"], abs=1e-5)


async def test_openai_models(http: httpx2.AsyncClient) -> None:
    models = (await http.get("/v1/models")).json()
    assert models["object"] == "list"
    assert {CHAT, EMBED} <= {model["id"] for model in models["data"]}
    one = (await http.get(f"/v1/models/{CHAT}")).json()
    assert one in models["data"]
    assert one["owned_by"] == "library"


async def test_anthropic_messages(http: httpx2.AsyncClient) -> None:
    body = {"model": CHAT, "max_tokens": 1000, "messages": HELLO}
    answer = (await http.post("/v1/messages", json=body)).json()
    assert answer["type"] == "message"
    assert answer["role"] == "assistant"
    assert answer["content"] == [{"type": "text", "text": SENTENCE}]
    assert answer["stop_reason"] == "end_turn"
    assert set(answer["usage"]) == {"input_tokens", "output_tokens"}


async def test_anthropic_messages_streamed(http: httpx2.AsyncClient) -> None:
    body = {"model": CHAT, "max_tokens": 2, "messages": HELLO, "stream": True}
    kind, lines = await stream(http, "/v1/messages", body)
    assert kind == "text/event-stream"
    assert [line.removeprefix("event: ") for line in lines if line.startswith("event: ")] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line[:4] == "data"]
    assert [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"] == [
        "I",
        " am",
    ]
    assert events[-2]["delta"] == {"stop_reason": "max_tokens"}
