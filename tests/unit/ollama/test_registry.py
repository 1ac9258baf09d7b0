"""Manifests, as registries send them."""

import json
from typing import Any

import pytest

from ollama_fleet.ollama.errors import RegistryError
from ollama_fleet.ollama.registry import MODEL_LAYER, parse_manifest

DIGEST = "sha256:" + "a" * 64


def manifest(**layer: Any) -> bytes:
    one = {"mediaType": MODEL_LAYER, "digest": DIGEST, "size": 7, **layer}
    return json.dumps({"config": {**one, "mediaType": "x"}, "layers": [one, one]}).encode()


def test_layers_are_found_by_their_kind() -> None:
    found = parse_manifest(manifest())
    assert found.size == 21
    assert [layer.size for layer in found.of_type(MODEL_LAYER)] == [7, 7]
    assert found.of_type("y") == ()


@pytest.mark.parametrize(
    "layer",
    [
        {"size": -1},
        {"size": "many"},
        {"size": float("inf")},
        {"size": 10**40},
        {"size": None},
        {"digest": "sha256:a"},
        {"digest": 7},
        {"mediaType": "\ud800"},
    ],
)
def test_what_no_layer_can_be_is_refused(layer: dict[str, Any]) -> None:
    with pytest.raises(RegistryError, match="no model manifest"):
        parse_manifest(manifest(**layer))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"[" * 100_000, b"9" * 5000, b'{"config":{},"layers":{}}', b'{"layers":7}'],
)
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(RegistryError, match="no model manifest"):
        parse_manifest(content)


def test_a_model_has_not_thousands_of_layers() -> None:
    one = {"mediaType": "x", "digest": DIGEST, "size": 1}
    with pytest.raises(RegistryError, match="no model manifest"):
        parse_manifest(json.dumps({"config": one, "layers": [one] * 1001}).encode())
