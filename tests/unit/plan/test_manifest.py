"""The manifest: what servers say, in order, bounded, and written when it changes only."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.taskstatus import TaskState
from ollama_fleet.plan.distribution import Around, plan_distribution
from ollama_fleet.plan.manifest import PART_BYTES, entries_in, manifest
from ollama_fleet.plan.servers import Installed, Probe, Server
from ollama_fleet.plan.tasks import Seen, Task
from tests.unit.plan.objects import DIGEST, GIB, NOW, OTHER, Object, resource, server

MD = resource("ModelDistribution", "md", {})
LATER = NOW + timedelta(hours=2)


def has(digest: str = DIGEST, models: tuple[str, ...] = ("m:1b",)) -> Probe:
    return Probe(
        version="1",
        installed={name: Installed(digest, GIB, "2026-02-01T00:00:00Z") for name in models},
        last_seen=NOW,
    )


def task(of: Server, state: Any = "Installed", model: str = "m:1b") -> Task:
    return Task(id=f"{of.name}{model}", server=of, model=model, pin=None, why="", state=state)


def one(made: tuple[Object, ...], name: str = "a-0") -> Any:
    return entries_in(made)[name]


def test_what_it_says_of_a_server() -> None:
    a = server(probe=has(models=("m:1b", "x:1b")), kubernetes_node="gpu-a")
    tasks = [task(a), task(a, "Failed", "f:1b"), task(a, "Waiting", "w:1b")]
    (made,) = manifest(MD, [a], tasks, (), NOW)
    assert made["metadata"]["name"] == "md-manifest"
    assert "ownerReferences" not in made["metadata"]
    assert json.loads(made["data"]["manifest.json"]) == {
        "distribution": "llm/md",
        "part": 1,
        "parts": 1,
        "time": "2026-03-01T12:00:00Z",
        "servers": [
            {
                "server": "a-0",
                "ollamaNode": "a",
                "kubernetesNode": "gpu-a",
                "host": "a-0",
                "port": 11434,
                "required": ["f:1b", "m:1b", "w:1b"],
                "present": ["m:1b"],
                "missing": ["w:1b"],
                "failed": ["f:1b"],
                "models": [
                    {
                        "name": "m:1b",
                        "digest": DIGEST,
                        "size": GIB,
                        "modified": "2026-02-01T00:00:00Z",
                        "verifiedAt": "2026-03-01T12:00:00Z",
                    },
                    {
                        "name": "x:1b",
                        "digest": DIGEST,
                        "size": GIB,
                        "modified": "2026-02-01T00:00:00Z",
                    },
                ],
                "time": "2026-03-01T12:00:00Z",
            }
        ],
    }


def test_time_alone_changes_nothing_and_a_new_digest_is_verified_anew() -> None:
    a, b = server(probe=has()), server("b-0", probe=has())
    first = manifest(MD, [b, a], [task(a), task(b)], (), NOW)
    assert manifest(MD, [a, b], [task(b), task(a)], first, LATER) == first
    changed = replace(a, probe=has(OTHER))
    second = manifest(MD, [changed, b], [task(changed), task(b)], first, LATER)
    assert one(second)["models"][0]["verifiedAt"] == "2026-03-01T14:00:00Z"
    assert one(second, "b-0") == one(first, "b-0")
    # one that has drifted is not verified
    assert (
        "verifiedAt"
        not in one(manifest(MD, [changed], [task(changed, "Waiting")], first, LATER))["models"][0]
    )


def test_the_last_word_of_a_silent_server_stands_and_one_that_is_gone_is_forgotten_later() -> None:
    a, b = server(probe=has()), server("b-0", probe=has())
    first = manifest(MD, [a, b], [task(a), task(b)], (), NOW)
    silent = replace(a, probe=Probe(), state="Starting")
    assert manifest(MD, [silent, b], [task(silent, "Waiting"), task(b)], first, LATER) == first
    without = manifest(MD, [b], [task(b)], first, NOW)
    assert one(without) == {**one(first), "absentSince": "2026-03-01T12:00:00Z"}
    assert manifest(MD, [b], [task(b)], without, NOW + timedelta(minutes=59)) == without
    back = manifest(MD, [a, b], [task(a), task(b)], without, NOW + timedelta(minutes=1))
    assert one(back)["models"] == one(first)["models"]
    assert set(entries_in(manifest(MD, [b], [task(b)], without, LATER))) == {"b-0"}


def test_a_thousand_servers_fit_into_several_parts_that_empty_again() -> None:
    names = tuple(f"organisation/some-model-{index}:70b-instruct-q4_0" for index in range(10))
    many = [server(f"a-{index:04d}", probe=has(models=names)) for index in range(1000)]
    tasks = [task(each, model=name) for each in many for name in names]
    parts = manifest(MD, many, tasks, (), NOW)
    assert 2 < len(parts) < 8
    assert [part["metadata"]["name"] for part in parts[:2]] == ["md-manifest", "md-manifest-2"]
    for part in parts:
        assert len(json.dumps(part)) < 2**20
        assert len(part["data"]["manifest.json"]) < PART_BYTES + 1000
    assert list(entries_in(parts)) == [each.name for each in many]
    assert manifest(MD, many, tasks, parts, LATER) == parts
    long_gone = manifest(MD, many[:1], tasks[:10], parts, NOW)
    fewer = manifest(MD, many[:1], tasks[:10], long_gone, LATER)
    assert len(fewer) == len(parts)
    assert list(entries_in(fewer)) == ["a-0000"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("Pulling", Reason.PULLING),
        ("Verifying", Reason.VERIFYING),
        ("Waiting", Reason.PARALLEL_LIMIT),
        ("Waiting", Reason.OPERATOR_LIMIT),
    ],
)
def test_while_models_arrive_it_is_not_written_for_each(state: TaskState, reason: Reason) -> None:
    a = server(probe=has())
    first = manifest(MD, [a], [task(a), task(a, "Pulling", "n:1b")], (), NOW)
    assert first
    more = replace(a, probe=has(models=("m:1b", "n:1b")))
    tasks = [task(more), task(more, model="n:1b")]
    tasks.append(replace(task(more, state, "o:1b"), reason=reason))
    assert manifest(MD, [more], tasks, first, NOW + timedelta(seconds=29)) == ()
    assert manifest(MD, [more], tasks, first, NOW + timedelta(seconds=30))
    assert manifest(MD, [more], tasks[:2], first, NOW + timedelta(seconds=1))
    # what it says is read where it is written again
    (part,) = first
    text = part["data"]["manifest.json"].replace('"servers": [\n', '"servers": [\n!')
    broken = {**part, "data": {"manifest.json": text}}
    assert entries_in([broken]) == {}
    assert manifest(MD, [more], tasks, [broken], NOW + timedelta(seconds=29)) == ()
    assert manifest(MD, [more], tasks, [broken], NOW + timedelta(seconds=30))
    # the clock was set back since
    assert manifest(MD, [more], tasks, first, NOW - timedelta(hours=1))
    # what waits for something else may wait for long
    tasks[-1] = replace(task(more, "Waiting", "o:1b"), reason=Reason.SERVER_NOT_READY)
    assert manifest(MD, [more], tasks, first, NOW + timedelta(seconds=1))


def test_what_somebody_broke_is_written_again() -> None:
    a = server(probe=has())
    first = manifest(MD, [a], [task(a)], (), NOW)
    for data in ({}, {"manifest.json": "{"}, {"manifest.json": "[]"}, {"manifest.json": "null"}):
        broken = {**first[0], "data": data}
        assert entries_in([broken]) == {}
        assert manifest(MD, [a], [task(a), task(a, "Pulling", "n:1b")], [broken], NOW)


@pytest.mark.parametrize(
    ("more", "written"),
    [
        ({}, True),
        ({"dryRun": True}, False),
        ({"rollout": {"schedule": "61 * * * *"}}, False),
    ],
    ids=["gone", "dry run", "refused"],
)
def test_of_the_last_server_it_says_too_that_it_is_gone(more: Object, written: bool) -> None:
    md = resource("ModelDistribution", "md", {"models": [{"name": "m:1b"}], "target": {}, **more})
    a = server(probe=has())
    first = manifest(MD, [a], [task(a)], (), NOW)
    seen = Seen(registry={}, running={}, failures={})
    made = plan_distribution(md, [], False, seen, NOW, Around(manifests=first)).plan.apply
    assert [part["metadata"]["name"] for part in made] == ["md-manifest"] * written
    if written:
        assert one(made) == {**one(first), "absentSince": "2026-03-01T12:00:00Z"}
        later = plan_distribution(md, [], False, seen, LATER, Around(manifests=made)).plan.apply
        assert entries_in(later) == {}
    assert not plan_distribution(md, [], False, seen, NOW).plan.apply
