"""Hostile input: what the properties about it share.

Each tries a few dozen examples in the suites, and as many as there is time for in `make fuzz`.
"""

import asyncio
import json
import os
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

import httpx2
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

T = TypeVar("T")

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
hostile = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
)
PATIENCE = 60.0
"""Seconds after which something hangs."""

texts = st.text(st.characters(), max_size=40) | st.sampled_from(
    ("", "\0", "\ud800", "a" * 5000, "../..", "\r\n", "\x1b[2J", "-1", "1e999", "ſ", "m:latest")
)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from((0, -1, 2**31, 2**63 - 1, 2**63, 10**400, float("nan"), float("inf")))
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
"""What JSON can say and Python can, which is more."""
deep = st.sampled_from((200, 500, 990, 1010, 5000)).map(
    lambda depth: b'{"models":' + b"[" * depth + b"]" * depth + b"}"
)


def in_json(value: object) -> bytes:
    return json.dumps(value).encode()


def shaped(shape: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with these keys, of which each may be absent, and hold whatever it likes."""
    return st.fixed_dictionaries(
        {}, optional={key: one | values for key, one in shape.items()}
    ) | st.dictionaries(texts, values, max_size=3)


def mutated(seed: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with some of them changed, left out, doubled, or others put between."""
    place = st.integers(0, len(seed))
    edit = st.tuples(place, place, st.binary(max_size=8) | st.sampled_from(PARTS))
    return st.lists(edit, max_size=4).map(lambda edits: _edited(seed, edits))


PARTS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\r\n\r\n", b"0\r\n\r\n", b"\xff", b"{", b"[",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"HTTP/1.1 200 OK\r\n", b"POST /api/delete HTTP/1.1\r\n", b"\xed\xa0\x80", b"9" * 20,
)  # fmt: skip


def _edited(seed: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for begin, end, new in edits:
        seed = seed[: min(begin, end)] + new + seed[max(begin, end) :]
        if begin > end:
            seed = seed[:begin] + seed[end:]
    return seed


def cut(data: bytes, places: list[float]) -> list[bytes]:
    """The same in pieces."""
    at = sorted({0, len(data), *(int(place * len(data)) for place in places)})
    return [data[begin:end] for begin, end in pairwise(at)]


places = st.lists(st.floats(0, 1), max_size=6)


def changed(spec: Any) -> st.SearchStrategy[Any]:
    """A specification with something in it replaced by whatever there is, or left out."""
    paths = list(_paths(spec))

    def put(parts: tuple[tuple[Any, ...], Any, bool]) -> Any:
        path, value, gone = parts
        return _replaced(spec, path, value, gone)

    return st.tuples(st.sampled_from(paths), values, st.booleans()).map(put)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _paths(one, (*path, key))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _paths(one, (*path, index))


def _replaced(value: Any, path: tuple[Any, ...], new: Any, gone: bool) -> Any:
    if not path:
        return new
    head, *rest = path
    made = dict(value) if isinstance(value, dict) else list(value)
    if gone and not rest:
        del made[head]
    else:
        made[head] = _replaced(made[head], tuple(rest), new, gone)
    return made


@contextmanager
def lean(most: int) -> Iterator[None]:
    """Fails where more than `most` bytes are needed at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= most, f"{peak} bytes"


def ends(work: Callable[[], Awaitable[T]]) -> T:
    """Do it in an event loop of its own; it must not take for ever."""

    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE):
            return await work()

    return asyncio.run(bounded())


class Pieces(httpx2.AsyncByteStream):
    """A body that comes in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> Any:
        for piece in self._pieces:
            yield piece


def answering(
    status: int, pieces: list[bytes], headers: list[tuple[str, str]] | None = None
) -> httpx2.MockTransport:
    """Whatever is asked, this is the answer."""
    told = [(name.encode(), value.encode()) for name, value in headers or []]
    return httpx2.MockTransport(
        lambda _: httpx2.Response(status, headers=told, stream=Pieces(pieces))
    )
