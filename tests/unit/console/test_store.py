"""What the console keeps of the fleet."""

from __future__ import annotations

from typing import Any

from ollama_fleet.console.store import Store
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE


def node(name: str, version: int, *servers: str) -> Any:
    return {
        "metadata": {
            "name": name,
            "namespace": "llm",
            "uid": name,
            "resourceVersion": str(version),
        },
        "spec": {"replicas": 2},
        "status": {"servers": [{"name": one, "state": "Ready"} for one in servers]},
    }


def ids(store: Store) -> list[str]:
    return [one.id for one in store.servers()]


async def test_servers_are_those_of_the_latest_state_of_each_ollamanode() -> None:
    store = Store()
    assert ids(store) == []
    store.put(OLLAMA_NODE, node("b", 1, "b-0"))
    store.put(OLLAMA_NODE, node("a", 2, "a-1", "a-0"))
    store.put(MODEL_DISTRIBUTION, node("c", 3, "c-0"))
    assert ids(store) == ["llm.a-0", "llm.a-1", "llm.b-0"]
    store.put(OLLAMA_NODE, node("a", 4, "a-0"))
    store.put(OLLAMA_NODE, node("b", 0))
    assert ids(store) == ["llm.a-0", "llm.b-0"]
    store.drop(OLLAMA_NODE, node("a", 4))
    assert ids(store) == ["llm.b-0"]
    store.put(OLLAMA_NODE, node("a", 9, "a-7"))
    assert ids(store) == ["llm.a-7", "llm.b-0"]


async def test_what_has_not_changed_is_not_read_again() -> None:
    store = Store()
    store.put(OLLAMA_NODE, node("a", 1, "a-0"))
    (before,) = store.servers()
    store.put(OLLAMA_NODE, node("b", 2, "b-0"))
    assert store.servers()[0] is before
