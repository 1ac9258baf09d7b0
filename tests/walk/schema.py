"""The fields that a user may write, from the definitions that the API server gets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]
_CRDS = Path(__file__).parents[2] / "crds"
_DEFAULT = re.compile(r"Defaults to ``?([^`]+)``?\.$|Defaults to (\S+)\.$")
_FORMS: dict[str, Any] = {
    "not a duration": "7m",
    "not a quantity": "7Gi",
    "not an amount": "70m",
    "not a label's value": "walked",
    "not a header's value": "walked",
    "not the name of an object": "walked",
    "not an image tag": "7.7.7",
    "not an image digest": f"sha256:{'7' * 64}",
    "not a host name": "walked.example.com",
}
"""What is written for a form, by how its rule begins to speak."""


@dataclass(frozen=True)
class Leaf:
    """A field with no fields below it. In its path `[]` is a list's first entry, and `{}` an entry
    of a map."""

    kind: str
    path: str
    schema: Schema

    @property
    def default(self) -> Any:
        """What holds where it is absent, as its description says; None where it does not."""
        found = _DEFAULT.search(self.schema.get("description", ""))
        return yaml.safe_load(found[1] or found[2]) if found else None

    def values(self, before: Any) -> list[Any]:
        """Other values than the one before: of a choice all, else one; none where the schema alone
        does not tell any."""
        now = self.default if before is None else before
        schema = self.schema
        if "enum" in schema:
            return [one for one in schema["enum"] if one != now]
        if schema.get("type") == "boolean":
            return [not now]
        if schema.get("type") == "integer":
            return [min(schema["maximum"], schema["minimum"] + 7)]
        if schema.get("type") == "number":
            return [(schema["minimum"] + schema["maximum"]) / 4]
        said = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
        forms = [_FORMS[form] for form in _FORMS if any(one.startswith(form) for one in said)]
        return forms[:1]


@cache
def leaves() -> tuple[Leaf, ...]:
    """Those of all three kinds."""
    found: list[Leaf] = []
    for path in sorted(_CRDS.glob("*.yaml")):
        definition = yaml.safe_load(path.read_text())["spec"]
        (version,) = definition["versions"]
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        kind = definition["names"]["kind"]
        found += [Leaf(kind, *one) for one in _below(spec, "")]
    return tuple(found)


def _below(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    entries = schema.get("additionalProperties")
    if schema.get("properties"):
        for name, child in schema["properties"].items():
            yield from _below(child, f"{path}.{name}")
    elif schema.get("type") == "array":
        yield from _below(schema["items"], f"{path}[]")
    elif isinstance(entries, dict):
        yield from _below(entries, f"{path}{{}}")
    else:
        yield path, schema
