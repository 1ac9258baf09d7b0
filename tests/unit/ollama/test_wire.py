from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest

from ollama_fleet.ollama.errors import RegistryError
from ollama_fleet.ollama.registry import parse_manifest
from ollama_fleet.ollama.wire import NEVER, InstalledModel, ModelDetail, ResidentModel

DIGEST = "sha256:" + "a" * 64


def test_unknown_fields_are_ignored_and_absent_ones_default() -> None:
    model = InstalledModel.model_validate({"name": "x", "colour": "red", "details": None})
    assert (model.name, model.size, model.modified_at) == ("x", 0, NEVER)
    assert model.details.family == ""
    assert ModelDetail.model_validate({"model_info": None}).model_info == {}


@pytest.mark.parametrize(
    ("tensors", "count"),
    [
        (None, 0),
        ([{"name": "output.weight", "shape": [64, 309]}], 0),
        ([{"name": "token_embd.weight", "type": "F32", "shape": [64, 309]}], 309),
        ([{"name": "token_embd.weight", "shape": []}], 0),
    ],
)
def test_tokens_are_counted_by_their_rows(tensors: object, count: int) -> None:
    assert ModelDetail.model_validate({"tensors": tensors}).vocabulary == count


def test_go_s_nanoseconds_are_read() -> None:
    model = ResidentModel.model_validate({"expires_at": "2318-03-01T12:00:00.123456789+01:00"})
    assert model.expires_at == datetime(2318, 3, 1, 11, 0, 0, 123456, UTC)


def manifest(**changes: object) -> bytes:
    layer = {"mediaType": "m", "digest": DIGEST, "size": 5}
    return json.dumps({"config": layer, "layers": [layer, layer], **changes}).encode()


def test_a_manifest_s_digest_is_of_its_bytes() -> None:
    content = manifest()
    read = parse_manifest(content)
    assert read.digest == hashlib.sha256(content).hexdigest()
    assert read.size == 15


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        manifest(layers=None),
        manifest(layers=[{"mediaType": "m", "digest": "sha256:../../etc", "size": 1}]),
        manifest(config={"mediaType": "m", "digest": 7, "size": 1}),
        b"x" * (1 << 20 | 1),
    ],
)
def test_what_is_no_manifest(content: bytes) -> None:
    with pytest.raises(RegistryError):
        parse_manifest(content)
