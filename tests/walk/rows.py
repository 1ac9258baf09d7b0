"""How each field is changed, from the table beside this module."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.walk.schema import Leaf, leaves

_TABLE = Path(__file__).with_name("fields.yaml")
_STEP = re.compile(r"\.([^.\[{]+)|(\[\])|(\{\})")


@dataclass(frozen=True)
class Base:
    """What is changed, and what is there beside it. `stands` is the reason of its Ready."""

    name: str
    spec: Any
    beside: tuple[Any, ...] = ()
    stands: str = "Ready"


@dataclass(frozen=True)
class Change:
    """A field set to another value. Where `refused` says something, the API server says it;
    `final` is what it says of taking the change back."""

    kind: str
    path: str
    base: Base
    before: Any
    to: Any
    also: Mapping[str, Any] = field(default_factory=dict)
    shows: str = ""
    stands: str = "Ready"
    refused: str = ""
    final: str = ""
    forgets: Mapping[str, str] = field(default_factory=dict)
    remembers: Mapping[str, str] = field(default_factory=dict)

    @property
    def old(self) -> Any:
        """The spec before."""
        return (
            self.base.spec if self.before is None else put(self.base.spec, self.path, self.before)
        )

    @property
    def new(self) -> Any:
        """And after."""
        spec = put(self.old, self.path, self.to)
        for path, value in self.also.items():
            spec = put(spec, path, value)
        return spec

    @property
    def evidence(self) -> str:
        """What a line of the differences is like where the change shows."""
        return self.shows.replace("{to}", re.escape(str(self.to)))

    def __str__(self) -> str:
        before = "" if self.before is None else f"{self.before} to "
        return f"{self.kind} {self.path}: {before}{self.to}"


def put(spec: Any, path: str, value: Any) -> Any:
    """The spec with a field set to a value; None removes it."""
    steps = [found[0] or found[1] or found[2] for found in _STEP.findall(path)]
    made = copy.deepcopy(spec)
    # a path that ends so is of the list, or the map, as a whole
    whole = steps.pop() if steps[-1] in ("[]", "{}") else ""
    if whole == "[]" and not isinstance(value, list):
        value = [value]
    at = made
    for step, following in zip(steps, [*steps[1:], ""], strict=True):
        if step == "[]":
            at = at[0]
        elif following == "":
            if value is None:
                at.pop(step, None)
            else:
                at[step] = value
        else:
            at = at.setdefault(step, [{}] if following == "[]" else {})
    return made


@cache
def _table() -> Any:
    return yaml.safe_load(_TABLE.read_text())


def changes() -> list[Change]:
    """All of the table, in its order."""
    table = _table()
    known = {(leaf.kind, leaf.path): leaf for leaf in leaves()}
    bases = {
        kind: {name: Base(name, **_renamed(given)) for name, given in of.items()}
        for kind, of in table["bases"].items()
    }
    found: list[Change] = []
    for kind, rows in table["fields"].items():
        for path, given in rows.items():
            for row in given if isinstance(given, list) else [given]:
                found += _changes(known[kind, path], bases[kind], row)
    return found


def _changes(leaf: Leaf, bases: Mapping[str, Base], row: Mapping[str, Any]) -> Iterator[Change]:
    base = bases[row.get("base", next(iter(bases)))]
    for value in row.get("to") or leaf.values(row.get("from")):
        yield Change(
            leaf.kind,
            leaf.path,
            base,
            row.get("from"),
            value,
            row.get("with", {}),
            row.get("shows", ""),
            row.get("stands", "Ready"),
            row.get("refused", ""),
            row.get("final", ""),
            row.get("forgets", {}),
            row.get("remembers", {}),
        )


def _renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, "beside": tuple(given.get("beside", ()))}


@dataclass
class Coverage:
    """Fields by kind: those of the definitions, and those of the table."""

    defined: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    walked: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    excepted: dict[str, dict[str, str]] = field(default_factory=dict)


def coverage() -> Coverage:
    """What is walked of what there is."""
    found = Coverage(excepted=_table()["exceptions"])
    for leaf in leaves():
        found.defined[leaf.kind].add(leaf.path)
    for change in changes():
        found.walked[change.kind].add(change.path)
    return found
