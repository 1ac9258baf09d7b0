"""What a tenant may try: each is refused, and no server hears of it."""

import asyncio
import json
from hashlib import sha256
from typing import Any

import pytest

from ollama_fleet.api.keys import clients_in
from tests.component.router.conftest import Serve, Start
from tests.component.router.peers import (
    CHAT,
    Backend,
    Client,
    Exchange,
    Reply,
    chat,
    eventually,
    get,
    say,
)

KEY = "Authorization: Bearer one\r\n"
ALIASES = [{"name": "fast", "targets": [{"model": "m"}], "fallbacks": ["n"]}]

ADMINISTRATION = ("pull", "push", "create", "copy", "delete", "ps", "blobs/sha256:" + "a" * 64)
SPELLINGS = {
    "plain": "/api/{}",
    "encoded": "/api/%{:02x}{}",
    "slash encoded": "/api%2f{}",
    "two slashes": "//api/{}",
    "two slashes within": "/api//{}",
    "a dot": "/api/./{}",
    "two dots": "/api/chat/../{}",
    "two dots encoded": "/api/chat/%2e%2e/{}",
    "encoded twice": "/api/%252e%252e/api/{}",
    "a slash at the end": "/api/{}/",
    "a parameter": "/api/{};a=b",
    "NUL": "/api/{}%00",
    "NUL before": "/api/chat%00/../{}",
    "a line end": "/api/{}%0d%0a",
    "a backslash": "/api\\{}",
    "capitals": "/API/{}",
    "a query": "/api/{}?path=/api/chat",
    "a query behind": "/api/chat?/../{}",
    "in v1": "/v1/../api/{}",
    "wide": "/api/%ef%bc%8f{}",
    "a space at the end": "/api/{}%20",
}
METHODS = ("POST", "DELETE", "GET", "PUT", "HEAD", "PATCH", "OPTIONS", "COPY")
OVERRIDES = "X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /api/delete\r\n"


def spelled(form: str, call: str) -> str:
    if "{:02x}" in form:
        return form.format(ord(call[0]), call[1:])
    return form.format(call)


def guarded(router: Any, **entries: dict[str, Any]) -> None:
    texts = {
        name: json.dumps({"sha256": sha256(name.encode()).hexdigest(), **limits})
        for name, limits in entries.items()
    }
    router.router.gate.take(clients_in(texts, json.loads))


def asked(backend: Backend) -> list[bytes]:
    return [one.head.split(b" HTTP")[0] for one in backend.exchanges]


@pytest.mark.parametrize("form", SPELLINGS.values(), ids=SPELLINGS.keys())
async def test_administration_by_any_spelling(start: Start, serve: Serve, form: str) -> None:
    backend = await serve()
    router = await start(backend)
    for call in ADMINISTRATION:
        for method in METHODS:
            client = await Client.connect(router.port)
            path = spelled(form, call)
            client.send(
                f"{method} {path} HTTP/1.1\r\nHost: f\r\nContent-Length: {len(CHAT)}\r\n"
                f"{OVERRIDES}\r\n".encode()
                + CHAT
            )
            reply = await client.reply(has_body=method != "HEAD")
            client.leave()
            # what is in a query is no path, and goes nowhere
            if not (form.startswith("/api/chat?") and method == "POST"):
                assert 400 <= reply.status < 500, (method, path)
    assert set(asked(backend)) <= {b"POST /api/chat"}


TARGETS = (
    "*", "http://f/api/chat", "f:11434", "/api/chat#/api/delete", "api/chat", "/\x00", "/api/ch at",
    "/api/\xff", "",
)  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["POST", "CONNECT", "TRACE", "post", "DELETE"])
async def test_targets_that_are_no_path(
    start: Start, serve: Serve, method: str, target: str
) -> None:
    backend = await serve()
    router = await start(backend)
    client = await Client.connect(router.port)
    client.send(f"{method} {target} HTTP/1.1\r\nHost: f\r\n\r\n".encode("latin-1"))
    assert (await client.reply()).status in (400, 404)
    assert not backend.exchanges


NAMES = (
    "registry.ollama.ai/library/m", "evil.example/library/m", "evil.example:80/a/m",
    "http://evil.example/a/m", "https://evil.example/a/m", "../../etc/passwd", "..", ".", "/m",
    "m/", "a//m", "m:..", "m:../../x", "m\0", "m\n", "gpt-oss:cloud", "GPT-OSS:120B-Cloud",
    "gpt-oss-cloud", "m:cloud", "hf.co/a/m", "@m", "-m", "m@sha256:" + "a" * 64, "m" * 2000,
    "\u212a", "\uff4d", " m", "m ",
)  # fmt: skip
FORMS = (
    "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show",
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
)  # fmt: skip


@pytest.mark.parametrize("path", FORMS)
async def test_names_that_lead_elsewhere(start: Start, serve: Serve, path: str) -> None:
    backend = await serve()
    router = await start(backend, models=ALIASES)
    for name in NAMES:
        reply = await chat(router.port, json.dumps({"model": name}).encode(), path)
        meant = name.removeprefix("registry.ollama.ai/library/")
        assert (reply.status == 200) == (meant == "m"), name
    for other in ({"MODEL": "evil.example/a/m"}, {"model": None, "name": "evil.example/a/m"}):
        body = json.dumps({"model": "m"} | other if "MODEL" in other else other).encode()
        assert (await chat(router.port, body, path)).status in (400, 404), body
    # what stands deeper is the model's own affair
    nested = {"model": "fast", "messages": [], "metadata": {"model": "evil.example/a/m"}}
    assert (await chat(router.port, json.dumps(nested).encode(), path)).status == 200
    for exchange in backend.exchanges:
        told = json.loads(exchange.body)
        assert told.get("model", told.get("name")) in ("m", "registry.ollama.ai/library/m")


CREDENTIALS = (
    "", "Authorization: Bearer\r\n", "Authorization: Bearer \r\n", "Authorization: Basic b25l\r\n",
    "Authorization: one\r\n", "Authorization: Bearer one two\r\n", "Authorization: Bearer One\r\n",
    "Authorization: Bearer " + "a" * 4000 + "\r\n", "Authorization: Bearer \xff\r\n",
    "x-api-key: two\r\n", "X_API_KEY: one\r\n", "Cookie: key=one\r\n",
    "Proxy-Authorization: Bearer one\r\n", "Authorization: Bearer on\0e\r\n",
    "Authorization: Bearer " + sha256(b"one").hexdigest() + "\r\n",
)  # fmt: skip


@pytest.mark.parametrize("more", CREDENTIALS, ids=range(len(CREDENTIALS)))
async def test_keys_that_are_none(start: Start, serve: Serve, more: str) -> None:
    backend = await serve()
    router = await start(backend, auth={"anonymous": False})
    guarded(router, one={})
    for path in ("/api/chat", "/api/chat?key=one&api_key=one&access_token=one"):
        client = await Client.connect(router.port)
        head = f"POST {path} HTTP/1.1\r\nHost: f\r\nContent-Length: {len(CHAT)}\r\n{more}\r\n"
        client.send(head.encode("latin-1") + CHAT)
        reply = await client.reply()
        assert reply.status == (400 if "\0" in more else 401)
    assert not backend.exchanges


async def test_a_wrong_key_is_told_no_more_than_another(start: Start, serve: Serve) -> None:
    router = await start(await serve(), auth={"anonymous": False})
    guarded(router, one={})
    told = set()
    for key in ("ones", "on", "two", sha256(b"one").hexdigest()):
        reply = await chat(router.port, more=f"Authorization: Bearer {key}\r\n")
        told.add((reply.status, reply.body, tuple(sorted(reply.fields.items()))))
    assert len(told) == 1


async def test_a_revoked_key(start: Start, serve: Serve) -> None:
    router = await start(await serve(), auth={"anonymous": False})
    guarded(router, one={})
    client = await Client.connect(router.port)
    head = f"POST /api/chat HTTP/1.1\r\nHost: f\r\n{KEY}Content-Length: {len(CHAT)}\r\n\r\n"
    client.send(head.encode() + CHAT)
    assert (await client.reply()).status == 200
    client.send(head.encode())  # its body comes once the key is no longer one
    await asyncio.sleep(0)
    guarded(router, two={})
    client.send(CHAT)
    assert (await client.reply()).status == 401


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("limit", [1, 2, 7, 12])
async def test_what_spreading_over_replicas_gains(
    start: Start, serve: Serve, replicas: int, limit: int
) -> None:
    """Nothing, but that each replica gives at least one: so many where the limit is less."""
    done = say(b'{"done":true,"prompt_eval_count":3,"eval_count":7}')
    backend = await serve(done)
    routers = [
        await start(backend, auth={"anonymous": False}, replicas=replicas) for _ in range(replicas)
    ]
    for router in routers:
        guarded(router, one={"requestsPerMinute": limit})
    names = ("m", "M", "library/m", "m:latest", "fast")
    replies: list[Reply] = []
    for turn in range(4 * limit + 12):
        router = routers[turn % replicas]
        body = json.dumps({"model": names[turn % 4]}).encode()
        replies.append(await chat(router.port, body, more=KEY))
    served = sum(reply.status == 200 for reply in replies)
    assert served == max(limit // replicas * replicas, replicas)
    assert {reply.status for reply in replies} <= {200, 429}


@pytest.mark.parametrize("replicas", [2, 3])
async def test_what_spreading_gains_in_tokens(start: Start, serve: Serve, replicas: int) -> None:
    """At most an answer at each replica: its tokens are known when it is over."""
    done = say(b'{"done":true,"prompt_eval_count":3,"eval_count":7}')
    backend = await serve(done)
    for _ in range(replicas):
        router = await start(backend, auth={"anonymous": False}, replicas=replicas)
        guarded(router, one={"tokensPerMinute": 100})
        for _ in range(12):
            await chat(router.port, more=KEY)
    assert 10 * len(backend.exchanges) <= 100 + 10 * replicas


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_what_spreading_gains_at_once(
    start: Start, serve: Serve, replicas: int, limit: int
) -> None:
    """Nothing, but that each replica takes at least one; it does not matter what is asked for, nor
    whether it waits here for a server."""
    free = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await free.wait()
        await say(b"hello")(exchange)

    backend = await serve(held, parallel=1)
    at_once = max(limit // replicas * replicas, replicas)
    replies: list[asyncio.Task[Reply]] = []
    for _ in range(replicas):
        router = await start(backend, auth={"anonymous": False}, replicas=replicas)
        guarded(router, one={"maxConcurrent": limit})
        for turn in range(limit + 3):
            body = json.dumps({"model": ("m", "M", "library/m", "m:latest")[turn % 4]}).encode()
            replies.append(asyncio.create_task(chat(router.port, body, more=KEY)))
    refused = len(replies) - at_once
    await eventually(lambda: sum(reply.done() for reply in replies) >= refused)
    assert {reply.result().status for reply in replies if reply.done()} == {429}
    free.set()
    statuses = [(await reply).status for reply in replies]
    assert (statuses.count(200), statuses.count(429)) == (at_once, refused)


async def test_listings_tell_of_nobody_elses_models(start: Start, serve: Serve) -> None:
    router = await start(await serve(models=["m:latest", "n:latest"]))
    for path in (
        "/v1/models/..%2f..%2fapi%2fps",
        "/v1/models/evil.example%2fa%2fm",
        "/v1/models/%00",
    ):
        assert (await get(router.port, path)).status == 404
