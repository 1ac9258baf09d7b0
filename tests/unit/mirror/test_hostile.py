"""Registries, credentials and ranges that say whatever they like."""
# ruff: noqa: PT017 - what is hostile may also be read

import base64
import re
import tempfile
from pathlib import Path
from typing import Any

import httpx2
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.api.names import ModelName
from ollama_fleet.mirror.credentials import Credentials, CredentialsError
from ollama_fleet.mirror.errors import MirrorError
from ollama_fleet.mirror.ranges import UnsatisfiableError, asked_range
from ollama_fleet.mirror.upstream import Upstream
from tests.hostile import (
    Pieces,
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
FIELD = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
LENGTHS = st.sampled_from(("9" * 400, "-5", "1e9", "0", "7", "", "٣"))

NUMBER = st.sampled_from(("", "0", "5", "9" * 18, "9" * 19, "9" * 5000, "-1", "٣", " 7"))
RANGES = st.none() | texts | st.builds("bytes={}-{}".format, NUMBER, NUMBER)


@hostile
@given(RANGES, st.none() | st.just("e") | texts, st.sampled_from((0, 1, 6, 2**62)))
def test_a_range(header: str | None, condition: str | None, size: int) -> None:
    try:
        found = asked_range(header, condition, "e", size)
    except UnsatisfiableError:
        return
    if found is not None:
        begin, end = found
        assert 0 <= begin < end <= size


ENTRY = shaped(
    {
        "auth": texts
        | st.binary(max_size=9).map(lambda secret: base64.b64encode(secret).decode())
        | st.sampled_from(("YTpi", "w6k6w6k=", "%")),
        "username": texts | values,
        "password": texts | values,
        "registrytoken": texts | values,
    }
)
CONFIGS = (
    st.dictionaries(texts | st.just("registry.lan"), ENTRY | values, max_size=2)
    .map(lambda auths: in_json({"auths": auths}))
    .filter(lambda config: len(config) < 1 << 20)
    | deep
    | st.binary(max_size=60)
    | mutated(b'{"auths": {"registry.lan": {"username": "a", "password": "b"}}}')
)


@hostile
@given(CONFIGS)
def test_credentials(config: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "config.json"
        path.write_bytes(config)
        credentials = Credentials(path)
        try:
            credentials.read()
        except CredentialsError as error:
            assert str(path) in str(error)
        found = credentials.of("registry.lan")
    if found is not None:
        shown = [found.basic, f"Bearer {found.token}" if found.token else None]
        assert all(re.fullmatch(r"(Basic|Bearer) [!-~]+", one) for one in shown if one)


REALM = st.sampled_from(
    (
        "https://auth.lan/token", "http://auth.lan/token", "https://[", "https://a:b@c:99999/", "",
        "file:///etc/passwd", "//", "https://auth.lan/\x7f", "https://\xff/",
    )
)  # fmt: skip
CHALLENGE = FIELD | st.builds(
    '{} realm="{}",service="{}",scope="{}"'.format,
    st.sampled_from(("Bearer", "bearer", "Basic", "Digest", "")),
    REALM | FIELD,
    FIELD,
    FIELD,
)
TOKENS = (
    shaped({"token": texts, "access_token": texts, "expires_in": numbers | texts}).map(in_json)
    | deep
    | st.binary(max_size=60)
    | mutated(b'{"token": "abc", "expires_in": 300}')
)


@hostile
@given(
    CHALLENGE.map(lambda text: text.encode("latin-1", "replace")),
    TOKENS,
    st.sampled_from((200, 206, 302, 404, 416, 429, 500)),
    st.binary(max_size=80),
    places,
    LENGTHS,
    st.sampled_from(("", "/", "https://[", "http://elsewhere/", "\x7f")),
)
def test_a_registry_that_wants_a_token(
    challenge: bytes,
    token: bytes,
    status: int,
    told: bytes,
    where: list[float],
    length: str,
    to: str,
) -> None:
    headers = [
        (b"Content-Length", length.encode()),
        (b"Content-Range", f"bytes 5-{length}/{length}".encode()),
        (b"Location", to.encode()),
        (b"Retry-After", length.encode()),
    ]

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host != "registry.lan":
            return httpx2.Response(200, stream=Pieces(cut(token, where)))
        if "authorization" in request.headers:
            return httpx2.Response(status, headers=headers, stream=Pieces(cut(told, where)))
        return httpx2.Response(401, headers=[(b"WWW-Authenticate", challenge)], stream=Pieces([]))

    name = ModelName.parse("registry.lan/a/b:c")

    async def asked() -> None:
        registries = {"registry.lan": "https://registry.lan"}
        async with Upstream(registries, Credentials(None)) as upstream:
            await upstream._http.aclose()
            upstream._http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))

            async def blob() -> None:
                async with upstream.blob(name, DIGEST, 5, 9) as body:
                    assert body.offset in (0, 5)
                    assert 0 <= body.total < 10**18
                    async for _ in body.chunks:
                        pass

            wanted: list[Any] = [
                lambda: upstream.manifest(name),
                lambda: upstream.size(name, DIGEST),
                blob,
            ]
            for ask in wanted:
                upstream._paused.clear()
                try:
                    await ask()
                except MirrorError as error:
                    assert str(error)

    with lean(16 << 20):
        ends(asked)
