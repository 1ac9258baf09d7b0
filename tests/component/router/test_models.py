"""Names that stand for models, and options that clients may not set: what a server is sent."""

import json
from collections import Counter
from typing import Any

import pytest

from ollama_fleet.router.config import parse
from tests.component.router.conftest import QUICK, Running, Serve, Start
from tests.component.router.peers import Backend, chat, eventually, get

MESSAGES = [{"role": "user", "content": "hi"}]
CANARY = {"name": "fast", "targets": [{"model": "m", "weight": 3}, {"model": "n", "weight": 1}]}


def body(model: str = "fast", **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": MESSAGES, **more}, indent=1).encode()


def sent(backend: Backend) -> dict[str, Any]:
    """The last body the server got."""
    last = backend.exchanges[-1]
    assert last.field("content-length") == str(len(last.body)).encode()
    return dict(json.loads(last.body))


async def counted(router: Running) -> str:
    return (await get(router.operators_port, "/metrics")).body.decode()


async def test_requests_are_spread_by_weight_and_counted_as_what_answers(
    start: Start, serve: Serve
) -> None:
    backend = await serve(models=["m:latest", "n:latest"])
    router = await start(backend, models=[CANARY])
    for _ in range(200):
        reply = await chat(router.port, body())
        assert (reply.status, reply.body) == (200, b"hello")
    answered = Counter(json.loads(one.body)["model"] for one in backend.exchanges)
    assert set(answered) == {"m", "n"}
    assert answered["m"] > answered["n"]  # once in 10¹³ runs it is not
    metrics = await counted(router)
    for model in ("m", "n"):
        labels = f'gen_ai_request_model="{model}:latest",server="{backend.name}"'
        assert f"duration_seconds_count{{{labels}}} {answered[model]}\n" in metrics
    assert 'request_model="fast' not in metrics


async def test_fallbacks_in_order_and_targets_again_when_they_are_back(
    start: Start, serve: Serve
) -> None:
    first, second = await serve(models=["m:latest"]), await serve(models=["y:latest", "z:latest"])
    route = {"name": "fast", "targets": [{"model": "m"}], "fallbacks": ["x", "y", "z"]}
    router = await start(first, second, models=[route])
    assert (await chat(router.port, body())).status == 200
    assert sent(first)["model"] == "m"
    await first.stop()
    await eventually(lambda: len(router.router.fleet.snapshot.ready) == 1)
    assert (await chat(router.port, body())).status == 200
    assert sent(second)["model"] == "y"
    await first.listen()
    await eventually(lambda: len(router.router.fleet.snapshot.ready) == 2)
    assert (await chat(router.port, body())).status == 200
    assert len(first.exchanges) == 2


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_a_name_with_nothing_behind_it(start: Start, serve: Serve, path: str) -> None:
    router = await start(await serve(models=["other:latest"]), models=[CANARY])
    reply = await chat(router.port, body(), path)
    assert (reply.status, reply.fields["retry-after"]) == (503, "30")
    assert b"no server has a model that 'fast' stands for: m, n" in reply.body


async def test_defaults_are_set_where_the_request_sets_none(start: Start, serve: Serve) -> None:
    backend = await serve()
    route = {
        "name": "fast",
        "targets": [{"model": "m"}],
        "defaults": {"temperature": 0.2, "num_predict": 8, "stop": ["END"]},
    }
    router = await start(backend, models=[route])
    await chat(router.port, body(options={"temperature": 1}, think=False))
    options = {"temperature": 1, "num_predict": 8, "stop": ["END"]}
    assert sent(backend) == {
        "model": "m", "messages": MESSAGES, "options": options, "think": False
    }  # fmt: skip
    await chat(router.port, body(), "/v1/chat/completions")
    assert sent(backend) == {
        "model": "m", "messages": MESSAGES, "temperature": 0.2, "max_tokens": 8, "stop": ["END"]
    }  # fmt: skip
    await chat(router.port, b'{"model":"","name":"fast"}', "/api/show")
    assert sent(backend) == {"model": "m", "name": "fast"}


async def test_a_name_in_the_place_of_an_installed_model(start: Start, serve: Serve) -> None:
    backend = await serve(models=["m:latest", "n:latest"])
    canary = {"name": "m", "targets": [{"model": "m", "weight": 0}, {"model": "n"}]}
    router = await start(backend, models=[canary])
    await chat(router.port, body("M:latest"))
    assert sent(backend)["model"] == "n"
    listed = json.loads((await get(router.port, "/api/tags")).body)["models"]
    assert sorted(one["name"] for one in listed) == ["m", "n:latest"]


async def test_a_name_may_look_like_that_of_a_cloud_model(start: Start, serve: Serve) -> None:
    backend = await serve()
    names = ("gpt-oss:120b-cloud", "evil.example/team/x")
    router = await start(
        backend, models=[{"name": name, "targets": [{"model": "m"}]} for name in names]
    )
    for name in names:
        assert (await chat(router.port, body(name))).status == 200
        assert sent(backend)["model"] == "m"
    assert (await chat(router.port, body("gpt-oss:20b-cloud"))).status == 403


async def test_names_are_listed_where_something_stands_behind_them(
    start: Start, serve: Serve
) -> None:
    none = {"name": "none", "targets": [{"model": "missing"}]}
    router = await start(await serve(models=["team/n:1b"]), models=[none])
    assert (await get(router.port, "/v1/models/fast")).status == 404
    fast = {"name": "fast", "targets": [{"model": "missing"}, {"model": "team/n:1b"}]}
    router.router.configure(
        parse({"backends": [{"url": "http://unused"}], **QUICK, "models": [fast, none]})
    )
    tags = json.loads((await get(router.port, "/api/tags")).body)["models"]
    assert {one["name"]: one["digest"] for one in tags} == dict.fromkeys(
        ("fast", "team/n:1b"), "d" * 64
    )
    assert all(one["model"] == one["name"] for one in tags)
    models = json.loads((await get(router.port, "/v1/models")).body)["data"]
    assert sorted((one["id"], one["owned_by"]) for one in models) == [
        ("fast", "library"), ("team/n:1b", "team")
    ]  # fmt: skip
    one = json.loads((await get(router.port, "/v1/models/FAST:latest")).body)
    assert one in models
    assert (await get(router.port, "/v1/models/none")).status == 404


async def test_what_loads_models_anew_is_stripped(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    options = {"num_ctx": 99, "num_gpu": 0, "temperature": 0}
    asked = body("m", options=options, keep_alive=-1, _debug_render_only=True, stream=False)
    assert (await chat(router.port, asked)).status == 200
    assert sent(backend) == {
        "model": "m", "messages": MESSAGES, "options": {"temperature": 0}, "stream": False
    }  # fmt: skip
    await chat(router.port, body("m", _debug_render_only=True), "/v1/chat/completions")
    assert sent(backend) == {"model": "m", "messages": MESSAGES}


async def test_a_body_with_nothing_to_strip_goes_out_byte_for_byte(
    start: Start, serve: Serve
) -> None:
    backend = await serve()
    same = {"name": "m", "targets": [{"model": "m"}], "defaults": {"temperature": 0}}
    for spec in ({}, {"models": [CANARY]}, {"models": [same]}):
        router = await start(backend, **spec)
        asked = body("m", options={"temperature": 1.50}, tools=[{"keep_alive": "num_ctx"}])
        await chat(router.port, asked)
        assert backend.exchanges[-1].body == asked


async def test_allowed_and_refused(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend, clientOptions={"loading": "Refuse", "keepAlive": "Allow"})
    reply = await chat(router.port, body("m", options={"num_ctx": 1}))
    assert reply.status == 400
    assert b"options that load a model anew are not for clients here: num_ctx" in reply.body
    asked = body("m", keep_alive=0)
    await chat(router.port, asked)
    assert [one.body for one in backend.exchanges] == [asked]
    assert 'rejected_total{reason="Options"} 1.0' in await counted(router)


async def test_clients_unload_nothing(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend)
    reply = await chat(router.port, b'{"model":"m","keep_alive":0}', "/api/generate")
    assert reply.status == 400
    assert json.loads(reply.body) == {
        "error": "models are unloaded by the fleet, not by clients: remove keep_alive"
    }
    assert not backend.exchanges
