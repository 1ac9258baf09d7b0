from typing import Any

import pytest

from ollama_fleet.plan.stores import Neighbour, store_of, taken, templates
from tests.unit.plan.objects import Object

EVERY: Object = {"perNode": {}, "storage": {"hostPath": "/data"}}
SOME: Object = {"replicas": 2, "storage": {"hostPath": "/data"}}
NAMED: Object = {"replicas": 1, "storage": {"existingClaim": "models"}}
VOLUMES: Object = {"replicas": 2, "storage": {"size": "1Gi"}}


def node(name: str, spec: Object, made: int = 1, namespace: str = "llm") -> Object:
    stamp = f"2026-03-01T12:00:{made:02}Z"
    meta = {"name": name, "namespace": namespace, "creationTimestamp": stamp}
    return {"metadata": meta, "spec": spec}


def at(spec: Object, path: str) -> Object:
    return {**spec, "storage": {"hostPath": path}}


def in_folder(path: str, divided: bool = False) -> Object:
    mount = {"name": "models", **({"subPathExpr": "$(POD_NAME)"} if divided else {})}
    return {
        "volumes": [{"name": "tmp"}, {"name": "models", "hostPath": {"path": path}}],
        "containers": [{"volumeMounts": [mount]}],
    }


def on_claim(name: str) -> Object:
    return {"volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": name}}]}


@pytest.mark.parametrize(
    ("first", "second", "meets"),
    [
        (EVERY, EVERY, True),
        (EVERY, SOME, True),
        (SOME, SOME, False),
        (EVERY, at(EVERY, "/data/"), True),
        (EVERY, at(EVERY, "//data/./"), True),
        (EVERY, at(EVERY, "/data/below"), True),
        (EVERY, at(EVERY, "/database"), False),
        (SOME, at(SOME, "/data/llm"), True),
        (NAMED, NAMED, True),
        (NAMED, {**NAMED, "storage": {"existingClaim": "other"}}, False),
        (NAMED, {**NAMED, "replicas": 0}, False),
        (VOLUMES, {**NAMED, "storage": {"existingClaim": "models-a-1"}}, True),
        (VOLUMES, {**NAMED, "storage": {"existingClaim": "models-a-2"}}, False),
        (VOLUMES, VOLUMES, False),
        (EVERY, {**EVERY, "storage": {"ephemeral": True}}, False),
        (EVERY, {"external": {"url": "http://x"}}, False),
        (EVERY, NAMED, False),
    ],
)
def test_which_stores_meet(first: Object, second: Object, meets: bool) -> None:
    one, other = store_of(node("a", first)), store_of(node("b", second))
    found = [one is not None and other is not None and one.meets(other)]
    found += [one is not None and other is not None and other.meets(one)]
    assert found == [meets, meets]


def test_claims_are_of_a_namespace_and_folders_of_a_machine() -> None:
    for spec, meets in ((NAMED, False), (EVERY, True)):
        one, other = store_of(node("a", spec)), store_of(node("b", spec, namespace="lab"))
        assert one is not None
        assert other is not None
        assert one.meets(other) is meets


def other(spec: Object | None, *pods: Object, made: int = 2, **more: Any) -> Neighbour:
    namespace = more.get("namespace", "llm")
    it = None if spec is None else node("b", spec, made, namespace)
    return Neighbour(namespace, "b", it, pods)


@pytest.mark.parametrize(
    ("mine", "pods", "by", "outcome"),
    [
        # nobody writes yet: the first made comes first
        (node("a", EVERY, 1), [], other(EVERY, made=2), None),
        (node("a", EVERY, 3), [], other(EVERY, made=2), "Stalled"),
        (node("a", EVERY, 2), [], other(EVERY, made=2), None),
        (node("c", EVERY, 2), [], other(EVERY, made=2), "Stalled"),
        (node("c", EVERY, 2), [], other(EVERY, made=2, namespace="zoo"), None),
        # whoever writes goes on, however young
        (node("a", EVERY, 1), [], other(EVERY, in_folder("/data"), made=2), "Stalled"),
        (node("a", EVERY, 3), [in_folder("/data")], other(EVERY, made=2), None),
        # both write, as two operators of the past may have left them
        (node("a", EVERY, 3), [in_folder("/data")], other(EVERY, in_folder("/data")), "Stalled"),
        (node("a", EVERY, 1), [in_folder("/data")], other(EVERY, in_folder("/data")), None),
        # it wants the store no longer, or is gone, but its pods are not
        (node("a", EVERY), [], other(at(EVERY, "/x"), in_folder("/data")), "Waits"),
        (node("a", EVERY), [], other(None, in_folder("/data/")), "Waits"),
        (node("a", SOME), [], other(None, in_folder("/data", divided=True)), None),
        (node("a", EVERY), [in_folder("/data")], other(None, in_folder("/data")), None),
        (node("a", NAMED), [], other(None, on_claim("models")), "Waits"),
        (node("a", VOLUMES), [], other(NAMED, on_claim("models-a-0")), "Waits"),
        (node("a", NAMED), [], other(None, on_claim("models"), namespace="lab"), None),
        (node("a", {**EVERY, "storage": {}}), [], other(EVERY, in_folder("/data")), None),
    ],
)
def test_who_may_write(
    mine: Object, pods: list[Object], by: Neighbour, outcome: str | None
) -> None:
    running = [{"metadata": {"name": "x"}, "spec": one} for one in pods]
    verdict = taken(mine, running, None, [by])
    found = verdict and ("Stalled" if verdict.stalled else "Waits")
    assert found == outcome
    if verdict:
        assert str(verdict.reason) == "StoreShared"
        assert verdict.reconciling is not verdict.stalled
        assert f"OllamaNode {by.namespace}/b" in verdict.message


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        (EVERY, EVERY, "hostPath /data is the store of OllamaNode llm/b, and a store has one"),
        (
            at(EVERY, "/data/x"),
            SOME,
            "hostPath /data is the store of OllamaNode llm/b, and hostPath /data/x overlaps it, "
            "and a store has one writer. Write another spec.storage.hostPath, or delete one",
        ),
        (NAMED, NAMED, "claim models is the store of OllamaNode llm/b"),
        (
            {**NAMED, "storage": {"existingClaim": "models-b-1"}},
            VOLUMES,
            "claim models-b-1 is the store of OllamaNode llm/b, and a store has one writer. Write "
            "another spec.storage.existingClaim, or",
        ),
        (
            VOLUMES,
            {**NAMED, "storage": {"existingClaim": "models-a-1"}},
            "claim models-a-1 is the store of OllamaNode llm/b, and a store has one writer. Write "
            "another spec.storage.existingClaim there, or",
        ),
    ],
)
def test_what_is_shared_is_named(mine: Object, theirs: Object, words: str) -> None:
    verdict = taken(node("a", mine, 3), (), None, [other(theirs)])
    assert verdict is not None
    assert words in verdict.message


def test_pods_that_have_ended_and_workloads_of_none_write_nothing() -> None:
    ended = {"spec": in_folder("/x"), "status": {"phase": "Failed"}}
    runs = {"spec": in_folder("/y"), "status": {"phase": "Running"}}
    template = {"template": {"spec": in_folder("/z")}}
    assert templates([ended, runs], None) == (in_folder("/y"),)
    assert templates([], {"spec": {**template, "replicas": 0}}) == ()
    assert templates([], {"spec": template}) == (in_folder("/z"),)


@pytest.mark.parametrize(
    ("spec", "before", "there", "waits"),
    [
        (EVERY, in_folder("/data"), False, True),
        (EVERY, in_folder("/data", divided=True), False, True),
        (EVERY, in_folder("/x"), False, False),
        (EVERY, in_folder("/data"), True, False),
        (SOME, in_folder("/data", divided=True), False, False),
        (SOME, in_folder("/data"), False, True),
        (NAMED, on_claim("models"), False, True),
    ],
)
@pytest.mark.parametrize(
    ("meta", "leaving"),
    [
        ({"deletionTimestamp": "2026-03-01T12:00:00Z"}, True),
        ({"ownerReferences": [{"kind": "DaemonSet", "controller": True}]}, True),
        ({"ownerReferences": [{"kind": "Other"}]}, False),
        ({}, False),
    ],
)
def test_who_is_made_again_waits_for_the_pods_of_its_former_life(
    spec: Object, before: Object, there: bool, waits: bool, meta: Object, leaving: bool
) -> None:
    pods = [{"metadata": {"name": "a-x7k2p", **meta}, "spec": before}]
    workload = {"spec": {"template": {"spec": before}}} if there else None
    verdict = taken(node("a", spec), pods, workload, ())
    # pods that stay are for the new workload to take over
    assert (verdict is not None) is (waits and leaving)
    if verdict:
        assert verdict.reconciling
        assert "its earlier pod a-x7k2p to end" in verdict.message
