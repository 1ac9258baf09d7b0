"""Servers, registries and files that say whatever they like: read, or refused with a sentence."""
# ruff: noqa: PT017 - what is hostile may also be read

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Self, cast

import httpx2
import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from dev.ollama import gguf_header
from ollama_fleet.api.access import Access
from ollama_fleet.ollama.answers import TooMuch, lines, value_of, whole
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import OllamaError
from ollama_fleet.ollama.gguf import GgufError, Header
from ollama_fleet.ollama.progress import Progress
from ollama_fleet.ollama.registry import (
    MODEL_LAYER,
    Layer,
    RegistryClient,
    parse_manifest,
    retry_after_seconds,
)
from ollama_fleet.plan.architecture import architecture_of
from tests.hostile import (
    Pieces,
    answering,
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

DIGEST = "sha256:" + "a" * 64
HEAD = gguf_header.write(
    {
        "general.architecture": "llama",
        "llama.block_count": 32,
        "llama.context_length": 8192,
        "llama.embedding_length": 4096,
        "llama.attention.head_count": 32,
        "tokenizer.ggml.tokens": ["a", "b", "c"],
    }
)
MODEL = shaped(
    {
        "name": texts,
        "digest": texts,
        "size": numbers,
        "size_vram": numbers,
        "modified_at": texts | st.datetimes().map(str),
        "expires_at": texts | st.sampled_from(("0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59")),
        "details": values,
    }
)
SHOWN = shaped(
    {
        "model_info": st.dictionaries(
            texts
            | st.sampled_from(
                ("general.architecture", "llama.block_count", "llama.attention.head_count")
            ),
            values | st.just("llama"),
            max_size=6,
        ),
        "tensors": st.lists(
            shaped({"name": st.just("token_embd.weight"), "shape": st.lists(numbers)})
        ),
        "capabilities": values,
        "details": values,
    }
)
ANSWERS = (
    shaped({"models": st.lists(MODEL, max_size=3), "version": values, "error": values}).map(in_json)
    | SHOWN.map(in_json)
    | deep
    | st.binary(max_size=80)
)


class Told:
    """A session of aiohttp, all of whose answers are this one."""

    def __init__(
        self, status: int, pieces: list[bytes], headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.content, self._pieces = status, self, pieces
        self.headers = CIMultiDict(headers or {})

    def request(self, *_: object, **__: object) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def iter_any(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def close(self) -> None:
        pass


def ask(told: Told, call: Callable[[OllamaClient], Awaitable[object]]) -> object:
    async def asked() -> object:
        async with OllamaClient("http://f:1", Access((("authorization", "key"),))) as client:
            await client.close()
            client._http = cast(ClientSession, told)
            try:
                return await call(client)
            except OllamaError as error:
                assert str(error)
                return None

    return ends(asked)


@hostile
@given(ANSWERS, st.sampled_from((200, 204, 302, 404, 503)), places)
def test_the_answers_of_a_server(told: bytes, status: int, where: list[float]) -> None:
    for call in (OllamaClient.version, OllamaClient.tags, OllamaClient.ps):
        found = ask(Told(status, cut(told, where)), call)
        json.dumps(str(found), ensure_ascii=False).encode()  # as it goes into a status
    detail: Any = ask(Told(status, cut(told, where)), lambda client: client.show("m"))
    if detail is not None:
        architecture_of(detail.model_info, detail.vocabulary)


NEWS = st.lists(
    shaped(
        {
            "status": texts | st.just("success"),
            "digest": texts,
            "total": numbers,
            "completed": numbers,
            "error": values,
            "message": shaped({"content": values}),
            "done": st.booleans(),
        }
    ).map(in_json)
    | deep
    | st.binary(max_size=40),
    max_size=5,
).map(b"\n".join)


@hostile
@given(NEWS, places)
def test_streams(told: bytes, where: list[float]) -> None:
    async def pull(client: OllamaClient) -> None:
        progress = Progress()
        moment = 0.0
        async for news in client.pull("m"):
            progress.observe(news, moment := moment + 1.0)
            json.dumps([progress.fraction, progress.speed(moment), progress.eta(moment)])

    async def chat(client: OllamaClient) -> None:
        async for piece in client.chat("m", []):
            assert piece.encode()

    ask(Told(200, cut(told, where)), pull)
    ask(Told(200, cut(told, where)), chat)


async def all_of(response: httpx2.Response) -> bytes:
    return await whole(response, 1 << 20)


async def a_line_of(response: httpx2.Response) -> bytes:
    return await anext(lines(response, 1 << 20))


@pytest.mark.parametrize("read", [all_of, a_line_of])
def test_an_answer_without_an_end_is_left(read: Callable[..., Any]) -> None:
    sent = 0

    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            nonlocal sent
            while True:
                sent += 1
                yield b"x" * 65536

    async def asked() -> None:
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Endless()))
        async with (
            httpx2.AsyncClient(transport=transport) as client,
            client.stream("GET", "http://f/") as response,
        ):
            with pytest.raises(TooMuch, match="longer than 1024 KiB"):
                await read(response)

    with lean(8 << 20):
        ends(asked)
    assert sent < 20


def test_what_is_compressed_unasked_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    compressed = Told(200, [bomb], {"Content-Encoding": "gzip"})
    with lean(8 << 20):
        assert ask(compressed, OllamaClient.tags) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"a":"\\ud800"}', "NaN", "-Infinity", "[" * 99999, "9" * 5000,
        b'{"a":"\xed\xa0\x80"}', '{"a":1}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_what_only_python_takes_for_json(text: str | bytes) -> None:
    for told in (text, text.encode() if isinstance(text, str) else text):
        with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
            value_of(told)


def test_a_whole_character_in_two_halves() -> None:
    assert value_of('["\\ud83d\\ude00"]') == ["😀"]


@hostile
@given(st.binary(max_size=400) | mutated(HEAD), st.integers(1, 512))
def test_the_head_of_a_model_file(content: bytes, piece: int) -> None:
    header = Header(longest=1 << 20)
    with lean(16 << 20):
        try:
            while not header.done and (part := content[header.position : header.position + piece]):
                header.feed(part)
        except GgufError as error:
            assert str(error)
    architecture_of(dict(header.values), 0)


LAYER = shaped(
    {
        "mediaType": texts | st.just(MODEL_LAYER),
        "digest": texts | st.just(DIGEST),
        "size": numbers,
    }
)
MANIFESTS = (
    shaped({"config": LAYER, "layers": st.lists(LAYER, max_size=3), "errors": values}).map(in_json)
    | deep
    | st.binary(max_size=60)
    | mutated(
        in_json(
            {
                "config": {"mediaType": "x", "digest": DIGEST, "size": 1},
                "layers": [{"mediaType": MODEL_LAYER, "digest": DIGEST, "size": 2}],
            }
        )
    )
)
FIELD = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30)
LOCATIONS = st.sampled_from(
    ("", "/", "//", "http://169.254.169.254/", "https://[", "https://a:b@c:99999/", "\x7f", "../x")
)


@hostile
@given(
    MANIFESTS,
    st.sampled_from((200, 206, 301, 307, 401, 404, 429, 500)),
    places,
    LOCATIONS | FIELD.map(lambda text: text.encode("ascii", "replace").decode()),
    st.sampled_from(("9" * 400, "Mon, 01 Jan 0001 00:00:00 +2359", "soon", "-5", "1e9", "0")),
)
def test_a_registry(told: bytes, status: int, where: list[float], to: str, wait: str) -> None:
    headers = [("Location", to), ("Retry-After", wait), ("Content-Range", f"bytes {wait}")]

    async def asked() -> None:
        async with RegistryClient() as client:
            client._http = httpx2.AsyncClient(
                transport=answering(status, cut(told, where), headers),
            )
            try:
                manifest = await client.manifest("m")
                json.dumps([manifest.size, *manifest.loaded])
            except OllamaError as error:
                assert str(error)
            try:
                await client.header("m", Layer(MODEL_LAYER, DIGEST, 1000))
            except (OllamaError, GgufError) as error:
                assert str(error)

    ends(asked)


@hostile
@given(MANIFESTS)
def test_a_manifest(told: bytes) -> None:
    try:
        manifest = parse_manifest(told)
    except OllamaError:
        return
    assert 0 <= manifest.size < 2**63


@hostile
@given(texts | st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
       st.none() | texts)  # fmt: skip
def test_how_long_a_registry_wants_to_be_left_alone(wait: str, date: str | None) -> None:
    seconds = retry_after_seconds(wait, date)
    assert seconds is None or 0 <= seconds <= 86400


def test_no_registry_leads_out_of_https() -> None:
    """The operator is in the cluster, and whoever names a model may not be."""
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        place = "http://console.ollama-fleet/api/me" if len(asked) == 1 else ""
        return httpx2.Response(
            302 if place else 500, headers={"Location": place}, stream=Pieces([b"secret"])
        )

    async def work() -> str:
        async with RegistryClient() as client:
            client._http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
            with pytest.raises(OllamaError) as refused:
                await client.manifest("m")
            return str(refused.value)

    assert "secret" not in ends(work)
    assert len(asked) == 1


def test_the_words_of_whoever_a_registry_points_to_are_not_told() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "registry.ollama.ai":
            return httpx2.Response(302, headers={"Location": "https://elsewhere.example/x"})
        return httpx2.Response(500, stream=Pieces([b"secret"]))

    async def work() -> str:
        async with RegistryClient() as client:
            client._http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
            with pytest.raises(OllamaError) as refused:
                await client.manifest("m")
            return str(refused.value)

    told = ends(work)
    assert "secret" not in told
    assert "elsewhere.example" in told
