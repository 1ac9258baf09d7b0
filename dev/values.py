"""The page of docs/reference that tells every value of the chart.

It is made from values.yaml, whose comments say what each is, and values.schema.json, which says
what is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dev.tables import table

CHART = Path(__file__).resolve().parent.parent / "charts" / "ollama-fleet"
_PAGE = """\
# Values of the chart

What `helm install` takes, by `--set NAME=VALUE` or in a file (`--values`). Made from the chart by
`make generate`. A misspelt name and a value of another type are refused, with the path.

{table}
"""
Schema = dict[str, Any]


@dataclass(frozen=True)
class Value:
    """A value by its path, such as `image.tag`."""

    path: str
    default: Any
    about: str
    schema: Schema


def page() -> str:
    """Every value, as Markdown."""
    rows = [(f"`{one.path}`", _type(one), _default(one.default), one.about) for one in values()]
    return _PAGE.format(table="\n".join(table(("Value", "Type", "Default", "Meaning"), rows)))


def values() -> list[Value]:
    """The values in the order of values.yaml. Those of an object without fields of its own, such as
    a nodeSelector, are one."""
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text)
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert isinstance(root, yaml.MappingNode)
    return list(_values(root, "", "", schema, schema, text.splitlines()))


def _values(
    node: yaml.MappingNode, path: str, about: str, schema: Schema, root: Schema, lines: list[str]
) -> Iterator[Value]:
    """What is said of an object goes before what is said of its first value."""
    for key, value in node.value:
        name = f"{path}.{key.value}" if path else key.value
        below = _resolved(schema.get("properties", {}).get(key.value, {}), root)
        told = " ".join(filter(None, (about, _comment(lines, key.start_mark.line))))
        about = ""
        if isinstance(value, yaml.MappingNode) and value.value and below.get("properties"):
            yield from _values(value, name, told, below, root, lines)
        else:
            yield Value(name, yaml.safe_load(yaml.serialize(value)), told, below)


def _resolved(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _comment(lines: list[str], line: int) -> str:
    """What the comments right above a line say."""
    told: list[str] = []
    while line and lines[line - 1].strip().startswith("#"):
        line -= 1
        told.insert(0, lines[line].strip().removeprefix("#").strip())
    return " ".join(told)


def _type(value: Value) -> str:
    schema = value.schema
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(replace(value, schema=one)) for one in choices)
    kind = schema.get("type") or _kind(value.default)
    kinds = kind if isinstance(kind, list) else [kind]
    return " or ".join(_named(kind, value) for kind in kinds)


def _kind(default: Any) -> str:
    kinds = {bool: "boolean", int: "integer", str: "string", list: "array"}
    return kinds.get(type(default), "object")


def _named(kind: str, value: Value) -> str:
    schema = value.schema
    if kind == "integer" and "maximum" in schema:
        return f"integer, {schema['minimum']} to {schema['maximum']}"
    if kind == "array":
        first = value.default[0] if value.default else None
        items = schema.get("items", {})
        objects = items.get("type", "object") == "object" or isinstance(first, dict)
        return "list of objects" if objects else "list of text"
    return {"boolean": "true or false", "string": "text"}.get(kind, kind)


def _default(value: Any) -> str:
    if value == "":
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
