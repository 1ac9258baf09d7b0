"""That every field of the three kinds is walked, and how a walk reads its table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.walk.campaign import parts, table
from tests.walk.picture import signs, unlike
from tests.walk.rows import Change, changes, coverage, put
from tests.walk.schema import Leaf, leaves
from tests.walk.walking import Outcome

KINDS = ("OllamaNode", "ModelDistribution", "Router")


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_walked_or_it_is_said_why_not(kind: str) -> None:
    found = coverage()
    excepted = found.excepted.get(kind, {})
    unwalked = found.defined[kind] - found.walked[kind] - excepted.keys()
    assert not unwalked, f"add a row to tests/walk/fields.yaml for each of {sorted(unwalked)}"
    assert found.walked[kind].isdisjoint(excepted), "walked, and excepted too"
    assert excepted.keys() <= found.defined[kind], "excepted, but no field"
    assert all("tests/" in why for why in excepted.values()), "say where it is tested"


def test_a_field_is_found_however_deep_it_lies() -> None:
    paths = {(leaf.kind, leaf.path) for leaf in leaves()}
    assert len(paths) == len(leaves()) > 150
    assert {
        ("OllamaNode", ".perNode"),
        ("OllamaNode", ".server.env[].valueFrom.fieldRef.fieldPath"),
        ("ModelDistribution", ".tiers[].models[].schedule.days[]"),
        ("Router", ".backends[].headers{}"),
        ("Router", ".template.affinity"),
    } <= paths


@pytest.mark.parametrize(
    ("schema", "before", "values"),
    [
        ({"enum": ["a", "b", "c"], "description": "One. Defaults to a."}, None, ["b", "c"]),
        ({"enum": ["a", "b", "c"], "description": "One. Defaults to a."}, "b", ["a", "c"]),
        ({"type": "boolean", "description": "Whether. Defaults to true."}, None, [False]),
        ({"type": "boolean"}, True, [False]),
        ({"type": "integer", "minimum": 1, "maximum": 100}, None, [8]),
        ({"type": "integer", "minimum": 1, "maximum": 3}, None, [3]),
        ({"type": "number", "minimum": 0, "maximum": 2}, None, [0.5]),
        ({"x-kubernetes-validations": [{"message": "not a duration: write…"}]}, None, ["7m"]),
        ({"type": "string"}, None, []),
    ],
)
def test_values_are_others_than_before(
    schema: dict[str, Any], before: Any, values: list[Any]
) -> None:
    assert Leaf("Router", ".x", schema).values(before) == values


@pytest.mark.parametrize(
    ("path", "value", "spec"),
    [
        (".a", 1, {"a": 1, "l": [{"k": 0}]}),
        (".l", None, {}),
        (".b.c", 1, {"l": [{"k": 0}], "b": {"c": 1}}),
        (".l[].k", 1, {"l": [{"k": 1}]}),
        (".l[].m.n", 1, {"l": [{"k": 0, "m": {"n": 1}}]}),
        (".n[]", 1, {"l": [{"k": 0}], "n": [1]}),
        (".n[]", [], {"l": [{"k": 0}], "n": []}),
        (".m{}", {"x": 1}, {"l": [{"k": 0}], "m": {"x": 1}}),
    ],
)
def test_a_field_is_set_where_it_belongs(path: str, value: Any, spec: Any) -> None:
    assert put({"l": [{"k": 0}]}, path, value) == spec


def test_every_change_changes_its_spec_and_says_where_it_shows() -> None:
    for change in changes():
        assert change.new != change.old, change
        assert change.shows or change.refused, change


def test_what_is_changed_in_one_namespace_begins_alike() -> None:
    made = parts(changes())
    assert sum(map(len, made)) == len(changes())
    assert all(len({str(one.old) for one in part}) == 1 for part in made)


def test_a_written_spec_is_no_sign_that_it_took_effect() -> None:
    before = {"Router chat": [{"spec": {"replicas": 1}, "status": {"observedGeneration": 1}}]}
    after = {"Router chat": [{"spec": {"replicas": 2}, "status": {"observedGeneration": 2}}]}
    assert signs(unlike(before, after), "Router", "chat") == []
    shown = {**after, "Deployment chat-router": [{"spec": {"env": [{"name": "A", "value": "1"}]}}]}
    (line,) = signs(unlike(before, shown), "Router", "chat")
    assert line.startswith("/Deployment chat-router")


def test_entries_of_lists_are_told_by_their_names() -> None:
    before = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    after = {"env": [{"name": "B", "value": "3"}, {"name": "A", "value": "1"}]}
    assert unlike(before, after) == ["/env/B/value: '2' was wanted, '3' is there"]


def test_the_table_counts_what_is_not_well() -> None:
    one, other = changes()[:2]
    good = Outcome(one, steps={"shown": 1.5, "equal": 0.5})
    bad = Outcome(other, refused=True, unequal=["x"], unseen=["y", "z"], steps={"shown": 3.2})
    rows = [line.split() for line in table([good, bad]).splitlines()]
    assert rows[1] == [one.kind, "2", "2", "1", "0", "1", "0", "1", "5"]
    assert good.faults == {}
    assert list(bad.faults) == ["not shown", "not equal"]


def test_the_pattern_of_a_change_takes_its_value_as_it_is() -> None:
    change = next(one for one in changes() if one.path == ".image.digest")
    assert isinstance(change, Change)
    assert "{to}" not in change.evidence
