"""The generated CRDs: as committed, structural, bounded, and worded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dev.generate import documents
from ollama_fleet.api.crd import RESOURCES, Resource, crd

ROOT = Path(__file__).parents[3]
by_kind = pytest.mark.parametrize("resource", RESOURCES, ids=lambda one: one.model.__name__)


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below the root, with its path; the API server's own three fields left out."""
    for name, child in schema.get("properties", {}).items():
        if not path and name in ("apiVersion", "kind", "metadata"):
            continue
        yield f"{path}.{name}", child
        yield from nodes(child, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield path + suffix, schema[key]
            yield from nodes(schema[key], path + suffix)


@cache
def schemas(resource: Resource) -> dict[str, dict[str, Any]]:
    (version,) = crd(resource)["spec"]["versions"]
    return dict(nodes(version["schema"]["openAPIV3Schema"]))


def is_text(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "string" or "x-kubernetes-int-or-string" in schema


def test_what_is_committed_is_what_the_models_say() -> None:
    stale = [str(path) for path, text in documents().items() if path.read_text() != text]
    assert stale == [], "run make generate"


@by_kind
def test_every_field_has_a_type(resource: Resource) -> None:
    untyped = [
        path
        for path, schema in schemas(resource).items()
        if "type" not in schema and "x-kubernetes-int-or-string" not in schema
    ]
    assert untyped == []


@by_kind
def test_nothing_that_a_structural_schema_cannot_say(resource: Resource) -> None:
    foreign = {"$ref", "$defs", "title", "nullable", "allOf", "oneOf", "const", "default"}
    for path, schema in schemas(resource).items():
        if (resource.model.__name__, path) == ("Router", ".spec.replicas"):
            assert schema.pop("default") == 1  # the scale subresource fails without one
        if (resource.model.__name__, path) == ("Router", ".spec"):
            assert schema.pop("default") == {}  # null else, once the last field is taken away
        assert not foreign & schema.keys(), path
        if "anyOf" in schema:
            assert schema["anyOf"] == [{"type": "integer"}, {"type": "string"}], path
            assert schema["x-kubernetes-int-or-string"] is True, path


@by_kind
def test_every_text_list_and_map_is_bounded(resource: Resource) -> None:
    for path, schema in schemas(resource).items():
        if is_text(schema):
            assert schema.keys() & {"maxLength", "enum"}, path
        elif schema["type"] == "array":
            assert "maxItems" in schema, path
            assert "items" in schema, path
        elif schema["type"] == "object" and "properties" not in schema:
            closed = "additionalProperties" in schema and "maxProperties" in schema
            assert closed or schema.get("x-kubernetes-preserve-unknown-fields"), path


@by_kind
def test_every_number_a_person_writes_is_bounded(resource: Resource) -> None:
    for path, schema in schemas(resource).items():
        if path.startswith(".spec") and schema.get("type") in ("integer", "number"):
            assert {"minimum", "maximum"} <= schema.keys(), path


@by_kind
def test_every_field_is_described(resource: Resource) -> None:
    silent = [
        path
        for path, schema in schemas(resource).items()
        if not path.endswith(("[]", "{}"))
        if not re.match("(?!Defaults to|A quantity:)[A-Z`]", schema.get("description", ""))
    ]
    assert silent == []


@by_kind
def test_no_regular_expression_is_shown_to_people(resource: Resource) -> None:
    assert [path for path, schema in schemas(resource).items() if "pattern" in schema] == []


@by_kind
def test_rules_are_worded(resource: Resource) -> None:
    (version,) = crd(resource)["spec"]["versions"]
    root = version["schema"]["openAPIV3Schema"]
    rules = [
        rule
        for schema in (root, *schemas(resource).values())
        for rule in schema.get("x-kubernetes-validations", ())
    ]
    assert rules
    for rule in rules:
        message = rule["message"]
        assert "!" not in message, message
        assert not message.endswith("."), message
        assert len(message) <= 160, message
        assert ": " in message or message.startswith("write "), message
        assert rule["reason"] in ("FieldValueInvalid", "FieldValueForbidden"), message


@by_kind
def test_names_columns_and_subresources(resource: Resource) -> None:
    spec = crd(resource)["spec"]
    assert spec["names"]["categories"] == ["ollama"]
    assert spec["names"]["shortNames"] == [resource.short]
    (version,) = spec["versions"]
    paths = schemas(resource)
    for column in version["additionalPrinterColumns"]:
        path = column["jsonPath"].partition("[")[0]
        assert path in paths or path == ".metadata.creationTimestamp", column["name"]
    for path in version["subresources"].get("scale", {}).values():
        assert path in paths
    assert ("scale" in version["subresources"]) is resource.runs


def test_the_source_root_is_no_package() -> None:
    """It would shadow the standard library's ``operator``."""
    assert not (ROOT / "operator" / "__init__.py").exists()
