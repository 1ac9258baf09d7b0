from typing import Any

import pytest

from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import NODE, POD


def pod(name: str, version: int, uid: str = "", namespace: str = "x", **meta: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            **meta,
        },
    }


@pytest.fixture
def store() -> Store:
    return Store()


def names(objects: list[Object]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects]


def test_put_get_remove(store: Store) -> None:
    assert store.put(pod("a", 1))
    assert store.get(POD, "x", "a") == pod("a", 1)
    assert store.get(POD, "y", "a") is None
    assert store.remove(pod("a", 2))
    assert store.get(POD, "x", "a") is None
    assert not store.remove(pod("a", 2))


@pytest.mark.parametrize(("version", "news"), [(4, False), (5, False), (6, True)])
def test_only_newer_is_news(store: Store, version: int, news: bool) -> None:
    store.put(pod("a", 5))
    assert store.put(pod("a", version)) is news


def test_versions_are_numbers_not_text(store: Store) -> None:
    store.put(pod("a", 9))
    assert store.put(pod("a", 10))


def test_an_object_that_is_gone_does_not_come_back_by_a_late_answer(store: Store) -> None:
    store.put(pod("a", 5))
    store.remove(pod("a", 6))
    assert not store.put(pod("a", 5))
    assert store.put(pod("a", 7, uid="another"))


def test_the_end_of_an_object_may_come_before_the_answer_that_made_it(store: Store) -> None:
    told: list[Object] = []
    store.on_change = lambda now, before: told.append(now)
    assert store.remove(pod("a", 6))
    assert not store.put(pod("a", 5))
    assert names(told) == ["a"]
    assert store.get(POD, "x", "a") is None


def test_the_end_of_a_former_object_leaves_its_successor(store: Store) -> None:
    store.put(pod("a", 5, uid="second"))
    store.remove(pod("a", 4, uid="first"))
    assert store.get(POD, "x", "a") is not None


def test_list_by_namespace_labels_and_owner(store: Store) -> None:
    store.put(pod("b", 1, labels={"app": "one", "tier": "gold"}))
    store.put(pod("a", 2, labels={"app": "one"}, ownerReferences=[{"uid": "o1"}]))
    store.put(pod("c", 3, namespace="y", labels={"app": "one"}))
    assert names(store.list(POD)) == ["a", "b", "c"]
    assert names(store.list(POD, "x")) == ["a", "b"]
    assert names(store.list(POD, labels={"app": "one", "tier": "gold"})) == ["b"]
    assert names(store.list(POD, owner="o1")) == ["a"]
    assert store.list(POD, "z") == []
    assert store.list(NODE) == []


class Looked(dict[str, str]):
    """Labels that count how often anybody looks at them."""

    times = 0

    def items(self) -> Any:
        Looked.times += 1
        return super().items()


def test_few_are_found_among_many_by_our_labels_without_a_look_at_the_others(store: Store) -> None:
    for number in range(1000):
        labels = Looked({"ollamafleet.dev/ollamanode": f"n{number // 20}"})
        store.put(pod(f"p{number:03}", number + 1, labels=labels))
    Looked.times = 0
    found = store.list(POD, "x", {"ollamafleet.dev/ollamanode": "n7"})
    assert names(found) == [f"p{number}" for number in range(140, 160)]
    assert Looked.times == 20
    assert store.list(POD, "y", {"ollamafleet.dev/ollamanode": "n7"}) == []


def test_what_is_relabelled_or_gone_is_found_by_its_old_label_no_more(store: Store) -> None:
    label = "ollamafleet.dev/router"
    store.put(pod("a", 1, labels={label: "r"}))
    store.put(pod("b", 2, labels={label: "r"}))
    store.put(pod("a", 3, labels={label: "s"}))
    assert names(store.list(POD, "x", {label: "r"})) == ["b"]
    assert names(store.list(POD, "x", {label: "s"})) == ["a"]
    store.remove(pod("b", 4))
    assert store.list(POD, "x", {label: "r"}) == []


def test_a_revision_is_another_after_each_change_of_its_kind_and_namespace(store: Store) -> None:
    def revisions() -> tuple[int, ...]:
        return (
            store.revision(POD, "x"),
            store.revision(POD, "y"),
            store.revision(POD),
            store.revision(NODE),
        )

    before = revisions()
    store.put(pod("a", 1))
    assert [now != then for now, then in zip(revisions(), before, strict=True)] == [
        True,
        False,
        True,
        False,
    ]
    before = revisions()
    assert not store.put(pod("a", 1))
    assert revisions() == before
    store.remove(pod("a", 2))
    assert revisions() != before


def test_managed_fields_are_not_kept(store: Store) -> None:
    obj = pod("a", 1, managedFields=[{"manager": "someone"}])
    store.put(obj)
    kept = store.get(POD, "x", "a")
    assert kept is not None
    assert "managedFields" not in kept["metadata"]
    assert "managedFields" in obj["metadata"]


def test_a_list_brings_news_and_prunes_ghosts(store: Store) -> None:
    store.put(pod("same", 1))
    store.put(pod("changed", 2))
    store.put(pod("ghost", 3))
    news = store.replace_all(POD, [pod("same", 1), pod("changed", 7), pod("new", 8)], "10")
    assert sorted(names(news)) == ["changed", "ghost", "new"]
    assert names(store.list(POD)) == ["changed", "new", "same"]


def test_a_list_does_not_undo_what_came_after_it(store: Store) -> None:
    store.put(pod("born-later", 11))
    store.put(pod("changed-later", 12))
    store.put(pod("gone-later", 5))
    store.remove(pod("gone-later", 13))
    news = store.replace_all(POD, [pod("changed-later", 4), pod("gone-later", 5)], "10")
    assert news == []
    assert names(store.list(POD)) == ["born-later", "changed-later"]


def test_a_list_of_one_namespace_prunes_only_there(store: Store) -> None:
    store.put(pod("a", 1, namespace="x"))
    store.put(pod("b", 2, namespace="y"))
    assert names(store.replace_all(POD, [], "10", "x")) == ["a"]
    assert names(store.list(POD)) == ["b"]


def test_kinds_without_a_namespace(store: Store) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "m", "uid": "u", "resourceVersion": "1"},
    }
    store.put(node)
    assert store.get(NODE, "", "m") == node


def test_every_change_is_told_and_nothing_else(store: Store) -> None:
    told: list[tuple[str, str | Object | None]] = []

    def version(obj: Object) -> str:
        return str(obj["metadata"]["resourceVersion"])

    def on_change(now: Object, before: Object | None) -> None:
        told.append((version(now), before and version(before)))

    store.on_change = on_change
    store.put(pod("a", 1))
    store.put(pod("a", 1))
    store.put(pod("a", 2))
    store.replace_all(POD, [pod("a", 3)], "3")
    store.replace_all(POD, [], "4")
    store.put(pod("b", 5))
    store.remove(pod("b", 6))
    store.remove(pod("b", 6))
    assert told == [("1", None), ("2", "1"), ("3", "2"), ("3", None), ("5", None), ("6", None)]
