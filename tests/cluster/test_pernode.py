"""A server per machine: machines that join, that leave, and whose labels change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from dev.cluster import Cluster, Machine
from ollama_fleet.kube.kinds import (
    DAEMON_SET,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    POD,
    ROUTER,
)
from tests.cluster.fleet import SMALL, Api, Fleet, distribution, ollama_node, router, told
from tests.cluster.waiting import eventually

GIB = 2**30
GPU = {"vendor": "amd"}
"""The cluster's own machines have GPUs of another vendor."""
FIRST, SECOND = (Machine(f"amd-{name}", vendor="amd", gpu_memory=16 * GIB) for name in "ab")
QWEN = "qwen3:1.7b"
TIERS = [
    {"minMemory": "24G", "models": [{"name": QWEN}]},
    {"minMemory": "8G", "models": [{"name": SMALL}]},
]


@pytest.fixture(scope="module", autouse=True)
def first(cluster: Cluster) -> Iterator[None]:
    """A machine that is there all the time."""
    cluster.add_machine(FIRST)
    yield
    cluster.remove_machine(FIRST.name)


@pytest.fixture
def second(cluster: Cluster) -> Iterator[str]:
    """The name of a machine that may join; it is taken away in the end."""
    yield SECOND.name
    if SECOND.name in cluster.machines():
        cluster.remove_machine(SECOND.name)


def answering(url: str) -> set[str]:
    """The servers that answer a few chats at once; an empty name for each that fails."""

    def ask(_: int) -> str:
        body = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
        told = {"X-Ollama-Fleet-Decision": "1"}
        answer = httpx2.post(
            f"{url}/api/chat", json=body, headers=told, timeout=20, trust_env=False
        )
        return str(answer.headers.get("X-Ollama-Fleet-Server", "")) if answer.is_success else ""

    with ThreadPoolExecutor(4) as threads:
        return set(threads.map(ask, range(4)))


def known_to_router(fleet: Fleet) -> set[str]:
    """The servers that the router's metrics speak of."""
    (pod,) = fleet.all(POD, "ollamafleet.dev/router=chat")
    text = httpx2.get(f"http://{pod['status']['podIP']}:9090/metrics", trust_env=False).text
    return {
        line.split('server="')[1].partition('"')[0]
        for line in text.splitlines()
        if line.startswith("ollama_fleet_router_server_ready{")
    }


def relabel(api: Api, machine: str, **labels: str | None) -> None:
    """Set labels of a machine; None takes one away."""
    named = {f"amd.com/gpu.{name}": value for name, value in labels.items()}
    change = {"metadata": {"labels": named}}
    api.call("PATCH", f"/api/v1/nodes/{machine}", change, "application/merge-patch+json")


def test_a_machine_that_joins_answers_within_ten_seconds_and_one_that_leaves_is_forgotten(
    fleet: Fleet, second: str
) -> None:
    fast = {"EMULATOR_TOKENS_PER_SECOND": "200"}
    node = ollama_node("every", perNode={}, gpu=GPU, server_env=fast)
    fleet.apply(node, distribution("m", SMALL), router())
    fleet.ready(MODEL_DISTRIBUTION, "m")
    url = fleet.url()
    eventually("the first answers", lambda: answering(url) == {"every-amd-a"}, within=15)

    fleet.cluster.add_machine(SECOND)
    begun = time.monotonic()
    eventually("the new one answers", lambda: f"every-{second}" in answering(url), within=20)
    assert time.monotonic() - begun < 10
    fleet.ready(MODEL_DISTRIBUTION, "m")
    assert told(fleet.tasks("m"), "server", "state") == [
        ("every-amd-a", "Installed"),
        (f"every-{second}", "Installed"),
    ]
    assert fleet.ready(OLLAMA_NODE, "every")["status"]["ready"] == "2/2"

    fleet.cluster.remove_machine(second)
    eventually("it is forgotten", lambda: set(fleet.servers("every")) == {"every-amd-a"})
    assert fleet.ready(OLLAMA_NODE, "every")["status"]["ready"] == "1/1"
    eventually(
        "no task is left", lambda: told(fleet.tasks("m"), "server") == [("every-amd-a",)], within=15
    )
    eventually("nor an endpoint", lambda: known_to_router(fleet) == {"every-amd-a"}, within=15)
    fleet.until(ROUTER, "chat", lambda obj: obj["status"]["servers"]["summary"] == "1/1")
    assert {pod["spec"]["nodeName"] for pod in fleet.pods("every")} == {"amd-a"}
    assert len(fleet.all(DAEMON_SET)) == 1
    assert answering(url) == {"every-amd-a"}
    fleet.rests(3)


def test_an_update_goes_from_machine_to_machine_with_the_models_in_memory(
    fleet: Fleet, second: str
) -> None:
    fleet.cluster.add_machine(SECOND)
    fleet.apply(ollama_node("every", perNode={}, gpu=GPU), distribution("m", SMALL), router())
    fleet.ready(ROUTER, "chat")
    eventually("there are two", lambda: len(fleet.servers("every")) == 2)
    fleet.ready(MODEL_DISTRIBUTION, "m")
    names = ["every-amd-a", f"every-{second}"]
    for pod in fleet.pods("every"):
        url = f"http://{pod['status']['podIP']}:11434/api/generate"
        httpx2.post(url, json={"model": SMALL}, timeout=20, trust_env=False).raise_for_status()
    resident = [(name, [SMALL]) for name in names]

    def everywhere() -> bool:
        return told(fleet.servers("every").values(), "name", "resident") == resident

    eventually("both tell it", everywhere, within=45)
    before = {pod["metadata"]["uid"] for pod in fleet.pods("every")}
    seen: set[tuple[str, ...]] = set()
    fleet.patch(OLLAMA_NODE, "every", {"spec": {"server": {"keepAlive": "1h"}}})

    def replaced() -> bool:
        servers = fleet.servers("every")
        seen.add(tuple(servers))
        away = [one for one in servers.values() if one["state"] != "Ready" or one["restoring"]]
        assert len(away) < 2, away
        return not before & {pod["metadata"]["uid"] for pod in fleet.pods("every")}

    eventually("both are others", replaced, within=90)
    fleet.ready(OLLAMA_NODE, "every")
    assert everywhere()
    assert {name for shown in seen for name in shown} == set(names)


def test_the_labels_of_a_machine_are_followed(fleet: Fleet, api: Api) -> None:
    fleet.apply(ollama_node("every", perNode={}, gpu=GPU), distribution("m", tiers=TIERS))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    assert told(fleet.tasks("m"), "server", "model") == [("every-amd-a", SMALL)]
    (pod,) = fleet.pods("every")
    try:
        relabel(api, "amd-a", vram="32G")
        eventually("the other tier is taken", lambda: told(fleet.tasks("m"), "model") == [(QWEN,)])
        fleet.ready(MODEL_DISTRIBUTION, "m")
        assert fleet.servers("every")["every-amd-a"]["memoryTotal"] == "32Gi"
        assert fleet.pods("every")[0]["metadata"]["uid"] == pod["metadata"]["uid"]

        relabel(api, "amd-a", vram=None)
        message = fleet.stalls(OLLAMA_NODE, "every", "NoServers")
        assert "GPU machines need the labels" in message
        eventually("the pod goes", lambda: not fleet.pods("every"))
        eventually("nothing of it is told", lambda: not fleet.servers("every"), within=15)
        eventually("nor wanted", lambda: not fleet.tasks("m"), within=15)
    finally:
        relabel(api, "amd-a", vram="16G")
    fleet.ready(OLLAMA_NODE, "every")
    fleet.ready(MODEL_DISTRIBUTION, "m")
    assert told(fleet.tasks("m"), "server", "model") == [("every-amd-a", SMALL)]
