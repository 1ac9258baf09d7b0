"""Keys and quotas, as clients of each API meet them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from ollama_fleet.api.keys import clients_in
from tests.component.router.conftest import Running, Serve, Start
from tests.component.router.peers import (
    CHAT,
    LAST_CHUNK,
    STREAM_HEAD,
    Client,
    Exchange,
    Reply,
    chat,
    chunk,
    eventually,
    get,
    say,
)

USAGE = say(b'{"model":"m","done":true,"prompt_eval_count":30,"eval_count":70}')
KEYS_OF_THREE = ("one", "two", "three")
Guard = Callable[..., Awaitable[Running]]


def entry(key: str, **limits: Any) -> str:
    return json.dumps({"sha256": sha256(key.encode()).hexdigest(), **limits})


def take(router: Running, **entries: str) -> None:
    router.router.gate.take(clients_in(entries, json.loads))


@pytest.fixture
def guard(start: Start) -> Guard:
    """`await guard(backend, a=entry("one"))` gives a router with these keys."""

    async def guarded(backend: Any, spec: Any = None, **entries: str) -> Running:
        running = await start(backend, auth={"anonymous": False}, **(spec or {}))
        take(running, **entries)
        return running

    return guarded


def bearer(key: str) -> str:
    return f"Authorization: Bearer {key}\r\n"


def error_of(reply: Reply) -> Any:
    return json.loads(reply.body)["error"]


async def metrics(router: Running) -> str:
    return (await get(router.operators_port, "/metrics")).body.decode()


async def test_only_those_with_a_key_are_served(guard: Guard, serve: Serve) -> None:
    backend = await serve()
    router = await guard(backend, a=entry("one"))
    for more in (bearer("one"), "x-api-key: one\r\n"):
        assert (await chat(router.port, more=more)).status == 200
    for more in ("", bearer("two"), "x-api-key: two\r\n", "Authorization: one\r\n"):
        reply = await chat(router.port, more=more)
        assert reply.status == 401
        assert reply.fields["www-authenticate"] == "Bearer"
        assert reply.fields["content-type"].startswith("application/json")
    assert len(backend.exchanges) == 2
    for exchange in backend.exchanges:
        assert b"one" not in exchange.head


async def test_each_api_is_told_in_its_own_form(guard: Guard, serve: Serve) -> None:
    router = await guard(await serve(), a=entry("one", models=["other"], requestsPerMinute=1))
    ollama = await chat(router.port)
    assert error_of(ollama).startswith("a key is needed here: send it as 'Authorization: Bearer")
    openai = error_of(await chat(router.port, path="/v1/chat/completions", more=bearer("two")))
    assert (openai["type"], openai["code"]) == ("authentication_error", "invalid_api_key")
    anthropic = await chat(router.port, path="/v1/messages", more="x-api-key: two\r\n")
    assert error_of(anthropic)["type"] == "authentication_error"
    refused = await chat(router.port, path="/v1/chat/completions", more=bearer("one"))
    assert refused.status == 403
    assert error_of(refused)["message"] == "your key is not for the model 'm'"
    refused = await chat(router.port, path="/v1/messages", more=bearer("one"))
    assert error_of(refused)["type"] == "permission_error"


async def test_a_body_is_not_waited_for_without_a_key(guard: Guard, serve: Serve) -> None:
    router = await guard(await serve(), a=entry("one"))
    client = await Client.connect(router.port)
    client.send(b"POST /api/chat HTTP/1.1\r\nHost: f\r\nContent-Length: 9000000\r\n\r\n{")
    assert (await client.reply()).status == 401
    assert await client.closed() == b""


async def test_paths_that_tell_nothing_are_open(guard: Guard, serve: Serve) -> None:
    router = await guard(await serve(), a=entry("one"))
    told = {path: (await get(router.port, path)).status for path in ("/", "/healthz", "/readyz")}
    assert told == {"/": 200, "/healthz": 200, "/readyz": 200}
    for path in ("/api/version", "/api/tags", "/v1/models", "/v1/models/m"):
        assert (await get(router.port, path)).status == 401
    assert (await get(router.operators_port, "/metrics")).status == 200


async def test_a_key_sees_and_uses_its_models_alone(guard: Guard, serve: Serve) -> None:
    backend = await serve(models=["m:latest", "n:latest"])
    router = await guard(backend, a=entry("one", models=["n"]), b=entry("two"))

    async def seen(path: str, key: str) -> Reply:
        client = await Client.connect(router.port)
        client.send(f"GET {path} HTTP/1.1\r\nHost: f\r\n{bearer(key)}\r\n".encode())
        return await client.reply()

    async def listed(key: str) -> list[list[str]]:
        tags = json.loads((await seen("/api/tags", key)).body)["models"]
        models = json.loads((await seen("/v1/models", key)).body)["data"]
        return [[one["name"] for one in tags], [one["id"] for one in models]]

    assert await listed("one") == [["n:latest"], ["n:latest"]]
    assert await listed("two") == [["m:latest", "n:latest"], ["m:latest", "n:latest"]]
    assert (await seen("/v1/models/n", "one")).status == 200
    # one that is there and one that is not are refused alike
    assert (await seen("/v1/models/m", "one")).status == 403
    assert (await seen("/v1/models/x", "one")).status == 403
    for model, status in (("m", 403), ("n", 200), ("x", 403), ("LIBRARY/N:latest", 200)):
        body = json.dumps({"model": model}).encode()
        assert (await chat(router.port, body, more=bearer("one"))).status == status
    assert len(backend.exchanges) == 2


async def test_a_name_is_for_whoever_may_use_all_it_stands_for(guard: Guard, serve: Serve) -> None:
    backend = await serve(models=["m:latest", "n:latest"])
    both = [{"name": "fast", "targets": [{"model": "m"}], "fallbacks": ["n"]}]
    router = await guard(
        backend,
        {"models": both},
        by_name=entry("one", models=["fast"]),
        by_models=entry("two", models=["m", "n"]),
        by_one=entry("three", models=["m"]),
    )
    body = json.dumps({"model": "fast"}).encode()
    seen = {key: (await chat(router.port, body, more=bearer(key))).status for key in KEYS_OF_THREE}
    assert seen == {"one": 200, "two": 200, "three": 403}
    shown = {}
    for key in KEYS_OF_THREE:
        client = await Client.connect(router.port)
        client.send(f"GET /api/tags HTTP/1.1\r\nHost: f\r\n{bearer(key)}\r\n".encode())
        tags = json.loads((await client.reply()).body)["models"]
        shown[key] = sorted(one["name"] for one in tags)
    assert shown == {
        "one": ["fast"],
        "two": ["fast", "m:latest", "n:latest"],
        "three": ["m:latest"],
    }


async def test_keys_change_while_it_serves(guard: Guard, serve: Serve) -> None:
    router = await guard(await serve(), a=entry("one"), b=entry("two"))
    client = await Client.connect(router.port)
    client.ask(more=bearer("one"))
    assert (await client.reply()).status == 200
    take(router, b=entry("two"), c=entry("three"))
    client.ask(more=bearer("one"))
    assert (await client.reply()).status == 401
    client.ask(more=bearer("three"))
    assert (await client.reply()).status == 200


async def test_a_key_taken_away_while_its_request_arrives(guard: Guard, serve: Serve) -> None:
    backend = await serve()
    router = await guard(backend, a=entry("one"))
    client = await Client.connect(router.port)
    head = f"POST /api/chat HTTP/1.1\r\nHost: f\r\n{bearer('one')}Content-Length: {len(CHAT)}\r\n"
    client.send(head.encode() + b"Expect: 100-continue\r\n\r\n")
    assert (await client.reply(has_body=False)).status == 100
    take(router, b=entry("two"))
    client.send(CHAT)
    assert (await client.reply()).status == 401
    assert not backend.exchanges


async def test_nobody_is_served_before_the_keys_are_known(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend, auth={"anonymous": False})
    reply = await chat(router.port, more=bearer("one"))
    assert (reply.status, reply.fields["retry-after"]) == (503, "2")
    assert "clients' keys" in error_of(reply)
    assert not backend.exchanges


async def test_strangers_may_be_let_in_beside_those_with_keys(start: Start, serve: Serve) -> None:
    router = await start(await serve(), auth={"anonymous": True})
    assert router.router.relay.gate is None
    settings = router.router.settings
    router.router.configure(replace(settings, keys_secret="keys"))
    take(router, a=entry("one", requestsPerMinute=1))
    for more in ("", bearer("ollama"), bearer("one")):
        assert (await chat(router.port, more=more)).status == 200
    assert (await chat(router.port, more=bearer("one"))).status == 429
    assert (await chat(router.port)).status == 200
    assert 'client_requests_total{client="",status="200"} 3.0' in await metrics(router)


async def test_requests_per_minute(
    guard: Guard, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await serve()
    router = await guard(backend, a=entry("one", requestsPerMinute=2), b=entry("two"))
    now = 1000.0
    monkeypatch.setattr(router.router.gate, "_clock", lambda: now)
    first = await chat(router.port, more=bearer("one"))
    shown = {name: value for name, value in first.fields.items() if "ratelimit" in name}
    assert shown == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "61s",
    }
    now = 1010.0
    assert (await chat(router.port, more=bearer("one"))).status == 200
    now = 1020.0
    over = await chat(router.port, path="/v1/chat/completions", more=bearer("one"))
    assert (over.status, over.fields["retry-after"]) == (429, "41")
    assert over.fields["x-ratelimit-remaining-requests"] == "0"
    assert error_of(over) == {
        "message": "your 2 requests per minute are used up here; try again in 41 s",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    other = await chat(router.port, more=bearer("two"))
    assert (other.status, [name for name in other.fields if "ratelimit" in name]) == (200, [])
    now = 1061.0
    assert (await chat(router.port, more=bearer("one"))).status == 200
    assert len(backend.exchanges) == 4
    told = await metrics(router)
    assert 'client_requests_total{client="a",status="200"} 3.0' in told
    assert 'client_requests_total{client="a",status="429"} 1.0' in told
    assert 'rejected_total{reason="QuotaExceeded"} 1.0' in told


async def test_tokens_per_minute_are_charged_when_an_answer_is_over(
    guard: Guard, serve: Serve
) -> None:
    usage = say(b'{"usage":{"input_tokens":30,"output_tokens":70}}')
    router = await guard(await serve(usage), a=entry("one", tokensPerMinute=150))
    path, key = "/v1/messages", "x-api-key: one\r\n"
    seen = []
    for _ in range(3):
        reply = await chat(router.port, path=path, more=key)
        seen.append((reply.status, reply.fields["anthropic-ratelimit-tokens-remaining"]))
    # what is left is told in the head, before the answer's own tokens are known
    assert seen == [(200, "150"), (200, "50"), (429, "0")]
    assert reply.fields["anthropic-ratelimit-tokens-limit"] == "150"
    assert reply.fields["anthropic-ratelimit-tokens-reset"].endswith("Z")
    assert error_of(reply)["type"] == "rate_limit_error"
    told = await metrics(router)
    assert 'client_tokens_total{client="a",type="input"} 60.0' in told
    assert 'client_tokens_total{client="a",type="output"} 140.0' in told


async def test_an_answer_that_tells_no_tokens_costs_its_events(
    guard: Guard, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def streamed(exchange: Exchange) -> None:
        head = STREAM_HEAD.replace(b"application/x-ndjson", b"text/event-stream")
        await exchange.send(head)
        for _ in range(20):
            await exchange.send(chunk(b'data: {"choices":[]}\n\n'))
        await exchange.send(chunk(b"data: [DONE]\n\n") + LAST_CHUNK)

    router = await guard(await serve(streamed), a=entry("one", tokensPerMinute=1000))
    assert (await chat(router.port, more=bearer("one"))).status == 200
    assert router.router.gate._usages["a"].tokens.used(0) == len(CHAT) // 4 + 21


async def test_an_answer_that_is_left_costs_what_came(guard: Guard, serve: Serve) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + chunk(b'{"response":"a"}\n') * 10)
        await exchange.left()

    router = await guard(
        await serve(endless), a=entry("one", tokensPerMinute=1000, maxConcurrent=1)
    )
    client = await Client.connect(router.port)
    client.ask(more=bearer("one"))
    await client.reply(has_body=False)
    busy = await chat(router.port, more=bearer("one"))
    assert (busy.status, busy.fields["retry-after"]) == (429, "1")
    assert error_of(busy) == "1 of your requests are under way here already; try again in 1 s"
    client.leave()
    usage = router.router.gate._usages["a"]
    await eventually(lambda: usage.concurrent == 0)
    assert usage.tokens.used(0) == len(CHAT) // 4 + 10


async def test_every_way_out_ends_a_request(guard: Guard, serve: Serve) -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.cut()

    router = await guard(await serve(cut), a=entry("one", maxConcurrent=3))
    await asyncio.gather(*(chat(router.port, more=bearer("one")) for _ in range(3)))
    for status in (503, 503):
        assert (await chat(router.port, more=bearer("one"))).status == status
    assert router.router.gate._usages["a"].concurrent == 0


async def test_several_routers_share_a_limit(guard: Guard, serve: Serve) -> None:
    router = await guard(await serve(), {"replicas": 3}, a=entry("one", requestsPerMinute=9))
    reply = await chat(router.port, more=bearer("one"))
    assert reply.fields["x-ratelimit-limit-requests"] == "3"


async def test_without_keys_nothing_is_asked_and_nothing_told(start: Start, serve: Serve) -> None:
    router = await start(await serve())
    assert router.router.relay.gate is None
    reply = await chat(router.port, more=bearer("anything"))
    assert reply.status == 200
    assert not [name for name in reply.fields if "ratelimit" in name]


async def test_the_clients_that_people_have_understand(guard: Guard, serve: Serve) -> None:
    done = say(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}')
    router = await guard(await serve(done), a=entry("one", models=["m"], requestsPerMinute=1))
    url = f"http://127.0.0.1:{router.port}"
    hi: Any = [{"role": "user", "content": "hi"}]

    async def by_openai(key: str, model: str = "m") -> None:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
            await client.chat.completions.create(model=model, messages=hi)

    async def by_anthropic(key: str, model: str = "m") -> None:
        async with AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client:
            await client.messages.create(model=model, max_tokens=1, messages=hi)

    await by_openai("one")
    for ask, known in ((by_openai, openai), (by_anthropic, anthropic)):
        with pytest.raises(known.AuthenticationError):
            await ask("two")
        with pytest.raises(known.PermissionDeniedError):
            await ask("one", "n")
        with pytest.raises(known.RateLimitError) as limited:
            await ask("one")
        assert 1 <= int(limited.value.response.headers["retry-after"]) <= 61
    with pytest.raises(openai.RateLimitError) as told:
        await by_openai("one")
    assert (told.value.code, told.value.type) == ("rate_limit_exceeded", "rate_limit_error")
