from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_fleet.api.names import InvalidModelName, ModelName, canonical, same


@pytest.mark.parametrize(
    ("text", "qualified", "short"),
    [
        ("llama3.2", "registry.ollama.ai/library/llama3.2:latest", "llama3.2:latest"),
        ("llama3.2:1b", "registry.ollama.ai/library/llama3.2:1b", "llama3.2:1b"),
        ("team/model", "registry.ollama.ai/team/model:latest", "team/model:latest"),
        ("hf.co/team/model:Q4_K_M", "hf.co/team/model:Q4_K_M", "hf.co/team/model:Q4_K_M"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
        ("library/qwen3:4b", "registry.ollama.ai/library/qwen3:4b", "qwen3:4b"),
        ("Registry.Ollama.AI/library/x:y", "Registry.Ollama.AI/library/x:y", "x:y"),
    ],
)
def test_parse(text: str, qualified: str, short: str) -> None:
    name = ModelName.parse(text)
    assert name.qualified == qualified
    assert name.canonical == str(name) == canonical(text) == short


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "model"),
        (":tag", "model"),
        ("model:", "tag"),
        ("a/b/", "model"),
        ("/b/c", "host"),
        ("-model", "model"),
        ("mo del", "model"),
        ("model:t/g", "namespace"),
        ("name.space/model", "namespace"),
        ("a/b/c/d", "host"),
        ("../etc/passwd", "host"),
        ("m" * 81, "model"),
        ("model:" + "t" * 81, "tag"),
        ("h" * 351 + "/a/b", "host"),
        ("modèle", "model"),
    ],
)
def test_what_is_no_name(text: str, part: str) -> None:
    with pytest.raises(InvalidModelName, match=f"its {part} "):
        ModelName.parse(text)


def test_the_error_says_what_to_write() -> None:
    with pytest.raises(InvalidModelName, match=r"write it like llama3\.2:1b"):
        ModelName.parse("a b")


def test_same() -> None:
    assert same("llama3.2", "Library/LLAMA3.2:latest")
    assert not same("llama3.2", "llama3.2:1b")
    assert not same("a b", "a b")


def test_with_registry() -> None:
    name = ModelName.parse("llama3.2:1b").with_registry("mirror.models:8080")
    assert name.canonical == "mirror.models:8080/library/llama3.2:1b"
    with pytest.raises(InvalidModelName):
        name.with_registry("a/b")


def test_paths() -> None:
    name = ModelName.parse("team/model:v1")
    assert name.manifest_path == "/v2/team/model/manifests/v1"
    assert name.blob_path("sha256:00") == "/v2/team/model/blobs/sha256:00"


@settings(deadline=None)
@given(st.text(max_size=40))
def test_parsing_either_fails_or_is_stable(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidModelName:
        return
    assert ModelName.parse(name.canonical).is_same(name)
    assert ModelName.parse(name.qualified) == name
    assert ".." not in name.manifest_path.split("/")
