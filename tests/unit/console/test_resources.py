"""Resources as people see them, who may change them, and what is sent when they change."""

import asyncio
import json
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from ollama_fleet.console import agents, resources, tasks, wire
from ollama_fleet.console.fleet import Settings, View
from ollama_fleet.console.identity import Identity, Person
from ollama_fleet.console.recent import Recent
from ollama_fleet.console.refusal import Refusal
from ollama_fleet.console.store import Store
from ollama_fleet.console.stream import Stream
from ollama_fleet.console.traffic import Traffic
from ollama_fleet.kube import Kind, Kube
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER
from ollama_fleet.traffic.figures import figures

SOMEBODY = Person("somebody", token="t")


class Reviews:
    """Kubernetes, as far as it says who may do what: "verb plural namespace"."""

    def __init__(self, rights: Collection[str]) -> None:
        self._rights = rights

    async def create(self, review: Any) -> Any:
        asked = review["spec"]["resourceAttributes"]
        words = (asked["verb"], asked["resource"], asked.get("namespace", "*"))
        return {"status": {"allowed": " ".join(words) in self._rights}}


def resource(name: str, spec: Any, status: Any = None, namespace: str = "llm") -> Any:
    meta = {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "1"}
    return {"metadata": meta, "spec": spec, "status": status or {}}


def condition(kind: str, status: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": "CrashLoop", "message": "why"}


def view(store: Store, *rights: str, person: Person = SOMEBODY) -> View:
    identity = Identity(cast(Kube, Reviews(rights)))
    return View(store, identity, person, Settings(), lambda: datetime.now(UTC))


def filled(*objects: tuple[Kind, Any]) -> Store:
    store = Store()
    for kind, obj in objects:
        store.put(kind, obj)
    return store


NODE = resource(
    "a.b",
    {"cordoned": True},
    {
        "replicas": 3,
        "readyReplicas": 2,
        "serversOmitted": 1,
        "conditions": [condition("Ready", "False"), condition("Stalled", "True")],
    },
)
DISTRIBUTION = resource(
    "base",
    {
        "models": [{"name": "b", "fallbacks": ["a:1b"]}],
        "tiers": [{"minMemory": "1Gi", "models": [{"name": "c:1b"}]}],
        "bestFit": {"candidates": ["d:1b"]},
        "suspend": True,
    },
    {"summary": {"desired": 4, "failed": 1, "unlisted": 2}, "nextWindow": "2026-01-01T00:00:00Z"},
)


def test_what_is_told_of_a_node() -> None:
    assert resources.node(NODE).model_dump() == {
        "id": "llm.a.b",
        "namespace": "llm",
        "name": "a.b",
        "cordoned": True,
        "ready": False,
        "stalled": True,
        "reason": "CrashLoop",
        "message": "why",
        "replicas": 3,
        "ready_replicas": 2,
        "servers_omitted": 1,
    }


def test_what_is_told_of_a_distribution() -> None:
    told = resources.distribution(DISTRIBUTION)
    assert told.models == ["a:1b", "b:latest", "c:1b", "d:1b"]
    assert told.suspended
    assert (told.desired, told.failed, told.installed, told.tasks_omitted) == (4, 1, 0, 0)
    assert told.next_window == "2026-01-01T00:00:00Z"


def test_all_is_told_before_anybody_has_looked() -> None:
    new = resource("new", {"models": [{"name": "a:1b"}]})
    assert resources.distribution(new).desired == 0
    assert not resources.node(resource("new", {})).ready
    assert resources.router(resource("new", {})).url is None


def test_a_spec_of_an_older_definition_is_shown_with_what_is_wrong() -> None:
    wrong = {"conditions": [condition("Stalled", "True")]}
    node = resource("a", {"replicas": "many", "cordoned": True}, wrong)
    made = resource("m", {"models": [{"name": 1}], "suspend": True}, wrong)
    assert resources.node(node).stalled
    assert resources.node(node).cordoned
    told = resources.distribution(made)
    assert (told.stalled, told.models, told.suspended) == (True, [], True)
    assert agents.servers_of(node) == []
    assert tasks.promised(made, []) == []


def test_a_node_is_found_by_its_id() -> None:
    seen = view(filled((OLLAMA_NODE, NODE)), "list ollamanodes *")
    assert asyncio.run(seen.resource(OLLAMA_NODE, "llm.a.b")) is NODE
    with pytest.raises(Refusal, match=r"no OllamaNode 'llm\.a'") as refusal:
        asyncio.run(seen.resource(OLLAMA_NODE, "llm.a"))
    assert refusal.value.status == 404


@pytest.mark.parametrize(
    ("rights", "told"),
    [
        ((), {}),
        (("list routers llm",), {"llm": ""}),
        (
            ("list ollamanodes *", "patch ollamanodes llm", "patch modeldistributions *"),
            {"llm": "cordon change", "other": "change"},
        ),
        (
            ("list modeldistributions other", "create modeldistributions other"),
            {"other": "distribute"},
        ),
    ],
)
def test_who_one_is(rights: tuple[str, ...], told: dict[str, str]) -> None:
    other = resource("a", {}, namespace="other")
    me = asyncio.run(view(filled((OLLAMA_NODE, NODE), (OLLAMA_NODE, other)), *rights).me())
    assert (me.name, me.anonymous) == ("somebody", False)
    may = {one.namespace: [right for right, may in one if may is True] for one in me.namespaces}
    assert may == {namespace: words.split() for namespace, words in told.items()}


def test_who_nobody_knows_may_look_alone() -> None:
    me = asyncio.run(view(filled((OLLAMA_NODE, NODE)), person=Person()).me())
    assert me.model_dump() == {
        "name": "",
        "anonymous": True,
        "namespaces": [{"namespace": "llm", "cordon": False, "distribute": False, "change": False}],
    }


def test_resources_are_sent_as_they_change() -> None:
    objects = (OLLAMA_NODE, NODE), (MODEL_DISTRIBUTION, DISTRIBUTION), (ROUTER, resource("r", {}))
    store = filled(*objects)
    stream = Stream(
        store,
        view(store),
        Settings(),
        lambda: datetime.now(UTC),
        None,
        lambda: asyncio.sleep(0),
        Traffic(cast(Kube, None), ()),
        Recent(),
    )
    everywhere: dict[str, frozenset[str] | None] = {kind.kind: None for kind, _ in objects}

    def sent() -> list[tuple[str, Any]]:
        found = []
        for one in stream.changes(everywhere, again=False):
            event, data, *_ = one.decode().splitlines()
            found.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        return found

    assert {name for name, _ in sent()} == {"node", "distribution", "router"}
    assert sent() == []
    changed = {**NODE, "metadata": {**NODE["metadata"], "resourceVersion": "2"}, "spec": {}}
    store.put(OLLAMA_NODE, changed)
    ((name, told),) = sent()
    assert (name, told["cordoned"]) == ("node", False)
    store.drop(MODEL_DISTRIBUTION, DISTRIBUTION)
    assert sent() == [("distribution-removed", {"id": "llm.base"})]


class Passing(Traffic):
    """What passes through routers, as a test says."""

    def __init__(self) -> None:
        super().__init__(cast(Kube, None), ())
        self.told: dict[str, wire.Traffic] = {}

    def all(self) -> dict[str, wire.Traffic]:
        return self.told


def test_traffic_is_sent_as_it_changes_to_those_who_may_see_it() -> None:
    store, passing = Store(), Passing()
    stream = Stream(
        store,
        view(store),
        Settings(),
        lambda: datetime.now(UTC),
        None,
        lambda: asyncio.sleep(0),
        passing,
        Recent(),
    )
    seen: dict[str, frozenset[str] | None] = {"Router": frozenset(("llm",))}
    nothing = wire.Traffic.model_validate(asdict(figures({}, {}, 1.0)))
    passing.told = {"llm.chat": nothing, "other.chat": nothing}
    (first,) = stream.passing(seen)
    assert first.startswith(b'event: traffic\ndata: {"id":"llm.chat","window_s":')
    assert stream.passing(seen) == []
    passing.told = {"llm.chat": nothing.model_copy(update={"in_flight": 1})}
    assert b'"in_flight":1' in stream.passing(seen)[0]
    passing.told = {}
    assert stream.passing(seen) == [b'event: traffic-removed\ndata: {"id": "llm.chat"}\n\n']
