"""GGUF headers, whole and in pieces, honest and hostile."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.ollama import gguf_header, library
from ollama_fleet.ollama.gguf import TOKENS, GgufError, Header, Value

SHAPE = {
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.embedding_length": 64,
    "llama.attention.head_count": [4, 2],
}
ARCHITECTURE = {"general.architecture": "llama", "general.name": "x" * 300}
TOKENIZER = {"tokenizer.ggml.model": "gpt2", TOKENS: ["tok"] * 3000, "tokenizer.ggml.types": [1] * 3000}  # fmt: skip  # noqa: E501


def read(content: bytes, piece: int = 1 << 20) -> Header:
    """As the registry's client reads it: what is skipped is never fetched."""
    header = Header()
    while not header.done:
        part = content[header.position : header.position + piece]
        if not part:
            raise GgufError("ends")
        header.feed(part)
    return header


def claimed(version: int = 3, keys: int = 1, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, keys) + rest


def entry(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("late", [True, False], ids=["tokens-last", "tokens-first"])
def test_the_shape_is_read_wherever_it_stands(late: bool, piece: int) -> None:
    parts = (ARCHITECTURE, SHAPE, TOKENIZER) if late else (TOKENIZER, SHAPE, ARCHITECTURE)
    content = gguf_header.write({key: value for part in parts for key, value in part.items()})
    header = read(content, piece)
    assert header.values == {"general.architecture": "llama", **SHAPE, TOKENS: 3000}
    assert (header.position < len(content)) == (late and piece < len(content))


def test_reading_ends_where_the_tokens_begin() -> None:
    content = gguf_header.write({**ARCHITECTURE, **SHAPE, **TOKENIZER})
    assert read(content, 64).position < 1000


def test_a_known_vocabulary_is_not_counted() -> None:
    known = {**ARCHITECTURE, **SHAPE, "llama.vocab_size": 7, **TOKENIZER}
    assert read(gguf_header.write(known)).values["llama.vocab_size"] == 7


def test_long_lists_are_passed_over_without_their_bytes() -> None:
    many = {"general.architecture": "llama", "other.list": [1] * 300_000, **SHAPE, **TOKENIZER}
    content = gguf_header.write(many)
    header, fetched = Header(), 0
    while not header.done:
        fetched += 4096
        header.feed(content[header.position : header.position + 4096])
    assert header.values["llama.block_count"] == 2
    assert fetched < 20_000 < len(content)


@pytest.mark.parametrize("name", sorted(library.LIBRARY))
def test_every_stand_in_tells_its_shape(name: str) -> None:
    package = library.sized(name)
    assert package is not None
    blob = max(package.blobs.values(), key=lambda one: one.size)
    values = read(blob.content).values
    entry = library.LIBRARY[name]
    assert values[f"{entry.architecture}.block_count"] == entry.layers


HUGE = 2**63
HOSTILE = {
    "no GGUF": (b"PK\x03\x04" + b"\0" * 40, "begin with GGUF"),
    "version 1": (claimed(version=1), "version is 1"),
    "the other byte order": (claimed(version=3 << 24), "version is"),
    "many keys": (claimed(keys=HUGE), "keys"),
    "a long key": (claimed(rest=struct.pack("<Q", HUGE)), "key of"),
    "a long text": (claimed(rest=entry("a", 8, struct.pack("<Q", HUGE))), "value of"),
    "a long list": (claimed(rest=entry("a", 9, struct.pack("<IQ", 4, HUGE))), "list of"),
    "a long text in a list": (
        claimed(rest=entry("a", 9, struct.pack("<IQQ", 8, 1, HUGE))),
        "value of",
    ),
    "a wide list": (claimed(rest=entry("a", 9, struct.pack("<IQ", 10, 30 << 20))), "value of"),
    "a list of lists": (claimed(rest=entry("a", 9, struct.pack("<IQ", 9, 1))), "unknown type 9"),
    "an unknown type": (claimed(rest=entry("a", 13, b"")), "unknown type 13"),
    "an unknown item": (claimed(rest=entry("a", 9, struct.pack("<IQ", 99, 1))), "unknown type 99"),
    "a text that never ends": (
        claimed(keys=9, rest=entry("a", 8, struct.pack("<Q", 20 << 20)) * 2),
        "ends",
    ),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_cannot_be_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(GgufError, match=message):
        read(content)


def test_reading_ends_at_the_longest_header() -> None:
    header = Header(longest=10_000)
    texts = entry("a", 9, struct.pack("<IQ", 8, 9_000)) + struct.pack("<Q", 0) * 9_000
    with pytest.raises(GgufError, match="longer than"):
        header.feed(claimed(rest=texts)[:20_000])


def test_not_everything_is_kept_while_nothing_is_known() -> None:
    content = gguf_header.write({f"k{number}": number for number in range(5000)})
    assert len(read(content).values) < 1000


values: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 2**40),
    st.booleans(),
    st.text(max_size=20),
    st.lists(st.integers(0, 2**31), max_size=20),
    st.lists(st.text(max_size=5), min_size=1, max_size=20),
)


@given(st.dictionaries(st.text(max_size=20), values), st.integers(1, 64))
def test_pieces_make_no_difference(content: dict[str, Value], piece: int) -> None:
    file = gguf_header.write({**content, **ARCHITECTURE, **SHAPE})
    assert read(file, piece).values == read(file).values


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400), st.booleans())
def test_garbage_is_refused_or_read_and_never_worse(noise: bytes, at: int, begun: bool) -> None:
    file = gguf_header.write({**ARCHITECTURE, **SHAPE, **TOKENIZER})
    content = file[:at] + noise + file[at + len(noise) :] if begun else noise
    header = Header(longest=1 << 20)
    try:
        while not header.done and (part := content[header.position : header.position + 512]):
            header.feed(part)
    except GgufError as error:
        assert str(error)  # noqa: PT017 (it may also be read)
    assert len(header.values) < 1000
