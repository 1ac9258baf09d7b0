"""Whose key it is; and what stays in force when entries cannot be read."""

from hashlib import sha256

import pytest

from ollama_fleet.api.keys import clients_in
from ollama_fleet.kube.access import value_of
from ollama_fleet.router.fields import Field
from ollama_fleet.router.keys import Keys
from ollama_fleet.router.quota import Limits


def entry(key: str, more: str = "") -> str:
    return f"{{sha256: {sha256(key.encode()).hexdigest()}{more}}}"


def keys(**entries: str) -> Keys:
    made = Keys()
    made.take(clients_in(entries, value_of), 1)
    return made


def whose(made: Keys, key: bytes) -> str | None:
    caller, _ = made.find([(b"x-api-key", key)])
    return caller.name if caller else None


@pytest.mark.parametrize(
    ("fields", "name", "presented"),
    [
        ([(b"authorization", b"Bearer one")], "a", True),
        ([(b"authorization", b"bearer  one ")], "a", True),
        ([(b"x-api-key", b"two")], "b", True),
        ([(b"authorization", b"Bearer ollama"), (b"x-api-key", b"two")], "b", True),
        ([(b"authorization", b"Bearer One")], None, True),
        ([(b"authorization", b"one")], None, False),
        ([(b"authorization", b"Basic one")], None, False),
        ([(b"authorization", b"Bearer ")], None, False),
        ([(b"x-api-key", b"")], None, False),
        ([(b"host", b"one")], None, False),
        ([], None, False),
    ],
)
def test_where_a_key_is_looked_for(fields: list[Field], name: str | None, presented: bool) -> None:
    caller, found = keys(a=entry("one"), b=entry("two")).find(fields)
    assert (caller.name if caller else None, found) == (name, presented)


def test_models_by_every_spelling() -> None:
    made = keys(a=entry("one", ", models: [Llama3.1, team/x:1b]"), b=entry("two"))
    caller, _ = made.find([(b"x-api-key", b"one")])
    assert caller is not None
    assert caller.may_use("llama3.1:latest")
    assert caller.may_use("fast:latest", ["llama3.1:latest", "team/x:1b"])
    assert not caller.may_use("fast:latest", ["llama3.1:latest", "llama3.1:8b"])
    assert not caller.may_use("llama3.1:8b")
    everything, _ = made.find([(b"x-api-key", b"two")])
    assert everything is not None
    assert everything.may_use("anything")


def test_an_entry_gone_or_with_another_key_counts_at_once() -> None:
    made = keys(a=entry("one"), b=entry("two"))
    made.take(clients_in({"b": entry("three")}, value_of), 1)
    assert [whose(made, key) for key in (b"one", b"two", b"three")] == [None, None, "b"]


def test_an_entry_that_cannot_be_read_stays_while_it_holds_its_key() -> None:
    made = keys(a=entry("one", ", requestsPerMinute: 5"), b=entry("two"))
    wrong = {"a": entry("one", ", requestsPerMinute: many"), "b": "revoked"}
    made.take(clients_in(wrong, value_of), 1)
    caller, _ = made.find([(b"x-api-key", b"one")])
    assert caller is not None
    assert caller.limits == Limits(5)
    assert whose(made, b"two") is None


def test_a_key_that_moved_to_another_entry_is_that_entrys() -> None:
    made = keys(a=entry("one"))
    made.take(clients_in({"a": entry("one", ", x: 1"), "b": entry("one")}, value_of), 1)
    assert whose(made, b"one") == "b"
