"""The router's readers, of whatever comes: what they were made to raise, and nothing else."""
# ruff: noqa: PT017 - what is hostile may also be read

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.api.keys import clients_in
from ollama_fleet.kube.access import value_of
from ollama_fleet.router.body import read_body, write_body
from ollama_fleet.router.breaker import Breaker
from ollama_fleet.router.caller import ProbeError
from ollama_fleet.router.chunks import ChunkScanner
from ollama_fleet.router.config import ConfigError, endpoint_of, load
from ollama_fleet.router.conversation import conversation_key
from ollama_fleet.router.errors import Api, FramingError, Refusal, envelope
from ollama_fleet.router.forward import Opening, request_head, response_head
from ollama_fleet.router.framing import head_fault, parse_request, parse_response
from ollama_fleet.router.listing import Listing
from ollama_fleet.router.names import is_cloud, is_host_qualified, lookup_key
from ollama_fleet.router.options import Policy, admitted, with_defaults
from ollama_fleet.router.probe import observe
from ollama_fleet.router.replicas import _counts
from ollama_fleet.router.routes import api_of_target, route
from ollama_fleet.router.snapshot import Fleet
from ollama_fleet.router.usage import COMPLETIONS, MESSAGES, OLLAMA, tail_of, usage_of
from tests.hostile import (
    cut,
    deep,
    ends,
    hostile,
    in_json,
    lean,
    mutated,
    numbers,
    places,
    shaped,
    texts,
    values,
)

REQUEST = b"POST /api/chat?a=b HTTP/1.1\r\nHost: f:80\r\nAccept: */*\r\nContent-Length: 2\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDPOINT = endpoint_of("http://127.0.0.1:1", "url")


@hostile
@given(mutated(REQUEST) | st.binary(max_size=300))
def test_a_request_head(head: bytes) -> None:
    head_fault(head)
    try:
        request = parse_request(head)
    except FramingError as fault:
        assert 400 <= fault.status < 600
        return
    try:
        route(request.method, request.target)
    except Refusal as refusal:
        json.loads(envelope(api_of_target(request.target), refusal.status, refusal.sentence))
    # what goes to a server is read again as what it is: one message, of that length
    request.body = b"{}"
    sent = request_head(request, b"/api/chat", Opening(ENDPOINT))
    again = parse_request(sent)
    assert (again.target, again.length, again.chunked) == (b"/api/chat", 2, False)
    assert sent.count(b"\r\n\r\n") == 1


@hostile
@given(mutated(RESPONSE) | st.binary(max_size=300))
def test_a_response_head(head: bytes) -> None:
    try:
        response = parse_response(head)
    except FramingError:
        return
    sent = response_head(response, (), chunked=True, keep_alive=True)
    again = parse_response(sent)
    assert (again.status, again.chunked) == (response.status, response.chunked)
    assert sent.count(b"\r\n\r\n") == 1


@hostile
@given(mutated(b"5\r\nhello\r\n00A\r\n0123456789\r\n0\r\n\r\n") | st.binary(max_size=64), places)
def test_chunks(data: bytes, where: list[float]) -> None:
    def follow(pieces: list[bytes]) -> object:
        scanner, sink, taken = ChunkScanner(), list[bytes](), 0
        for piece in pieces:
            try:
                taken += scanner.feed(piece, 0, sink)
            except FramingError:
                return "refused", b"".join(sink)[:0]
            if scanner.done:
                break
        return scanner.done, b"".join(sink), taken

    assert follow(cut(data, where)) == follow([data] if data else [])


names = st.sampled_from(("m", "Model", "model", "name", "options", "keep_alive", "ſeed")) | texts
bodies = (
    shaped(
        {
            "model": texts,
            "name": texts,
            "options": st.dictionaries(texts | st.just("num_ctx"), values, max_size=3),
            "keep_alive": texts | numbers,
            "messages": st.lists(shaped({"role": texts, "content": texts}), max_size=3),
            "system": texts,
        }
    ).map(in_json)
    | mutated(b'{"model":"a","\\u0061":1,"options":{"num_ctx":1},"x":[1,"\\ud83d\\ude00"]}')
    | deep
    | st.tuples(deep, st.sampled_from((b'{"model":"a","b":"\\u0041","x":%s}', b"[%s"))).map(
        lambda made: made[1] % made[0]
    )
    | st.integers(1, 6000).map(lambda size: b'{"model":"\\u0061","x":%s}' % (b"9" * size))
    | st.binary(max_size=80)
)


@hostile
@given(bodies, st.sampled_from(("/api/chat", "/v1/responses", "/v1/messages", "/api/embed")))
def test_a_body(body: bytes, path: str) -> None:
    with lean(100 * len(body) + (1 << 20)):
        try:
            read = read_body(body, may_use_name=True)
            fields = admitted(read.fields, Policy())
            fields = with_defaults(fields, {"num_predict": 5, "seed": 1}, path.encode())
            sent = body if fields is read.fields else write_body(fields)
        except Refusal as refusal:
            assert refusal.status == 400
            json.loads(envelope(Api.OPENAI, 400, refusal.sentence))
            return
    lookup_key(read.name), is_cloud(read.name), is_host_qualified(read.name)
    conversation_key("m", read.fields)
    # whoever reads it, however it treats keys that stand twice, reads the model that was read here
    seen: list[tuple[str, Any]] = []
    try:
        json.loads(sent, object_pairs_hook=lambda pairs: seen.__setitem__(slice(None), pairs))
    except (RecursionError, ValueError):
        return
    found = [value for key, value in seen if key.casefold() == "model"]
    assert found in ([read.name], [], [""], [None]), found


@hostile
@given(st.binary(max_size=5000) | mutated(b'{"eval_count": 12,"prompt_eval_count":9}' * 3), places)
def test_the_end_of_an_answer(data: bytes, where: list[float]) -> None:
    for counts in (OLLAMA, COMPLETIONS, MESSAGES):
        for count in usage_of(tail_of(cut(data, where)), counts):
            assert count is None or 0 <= count < 10**12


MODEL = shaped(
    {
        "name": texts,
        "digest": texts,
        "size": numbers,
        "size_vram": numbers,
        "modified_at": texts | st.datetimes().map(str),
        "expires_at": texts | st.datetimes().map(str),
        "details": shaped({"parent_model": texts, "families": values}),
    }
)
TAGS = (
    shaped({"models": st.lists(MODEL, max_size=3), "version": texts}).map(in_json)
    | deep
    | st.binary(max_size=60)
)


@hostile
@given(TAGS)
def test_what_a_server_says_of_itself(told: bytes) -> None:
    def breaker() -> Breaker:
        return Breaker(1, 1.0, 1.0)

    async def told_by(_: str) -> bytes:
        return told

    async def look() -> None:
        fleet = Fleet(breaker, asyncio.get_running_loop().time)
        fleet.want([ENDPOINT])
        try:
            seen = await observe(told_by, fleet.snapshot.servers[0])
        except ProbeError:
            return
        fleet.observe(seen)
        assert fleet.snapshot.ready
        listing = Listing(fleet.snapshot, {})
        for answer in (listing.tags, listing.models, listing.version):
            try:
                json.loads(answer())
            except Refusal as refusal:
                assert refusal.status in (404, 503)
        for name in seen.installed:
            json.loads(listing.model(name))

    ends(look)


@hostile
@given(
    shaped({"replica": texts, "inFlight": st.dictionaries(texts, values), "waiting": values}).map(
        in_json
    )
    | deep
    | st.binary(max_size=60)
)
def test_what_another_replica_tells(body: bytes) -> None:
    try:
        _counts(body)
    except ValueError:
        return


YAML = (
    st.text(max_size=60)
    | values.map(lambda value: json.dumps(value))
    | st.sampled_from(
        (
            "!!int ''",
            "!!float ''",
            "!!timestamp x",
            "!!bool x",
            "2001-99-99",
            "[" * 2000,
            "? [a]\n: b",
            "9" * 5000,
            "a: &a [*a]",
            "!!binary \xff",
            "<<: 1",
            "!!python/object:os.system x",
            "a: &x [1]\nb: [*x,*x]",
        )
    )
)


@hostile
@given(YAML)
def test_a_file_of_settings(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "settings.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(path)
    except ConfigError as error:
        assert str(path) in str(error)


@hostile
@given(
    st.dictionaries(texts, YAML, max_size=3)
    | shaped({"sha256": st.just("a" * 64), "models": values, "weight": numbers}).map(
        lambda entry: {"a": json.dumps(entry)}
    )
)
def test_keys(entries: dict[str, str]) -> None:
    found = clients_in(entries, value_of)
    assert found.good.keys() | found.faults.keys() == entries.keys()
