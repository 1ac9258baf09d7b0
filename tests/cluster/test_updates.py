"""Servers that are replaced, moved and removed while clients stream: nobody is cut off."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, POD, Object
from tests.cluster.chatting import chatting
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import OPERATOR, SMALL, Fleet, distribution, ollama_node, router, told
from tests.cluster.waiting import eventually

STREAMS = 10
SLOW = {"EMULATOR_TOKENS_PER_SECOND": "30", "EMULATOR_ANSWER_TOKENS": "30"}
SERVER = {"env": [{"name": "OLLAMA_FLEET_SERVER", "value": "emulator"}]}
SERVER["env"] += [{"name": name, "value": value} for name, value in SLOW.items()]


def servers(**spec: Any) -> Object:
    """Servers that answer a chat in about a second, several at a time."""
    return ollama_node("a", server={"parallel": 16, **SERVER}, **spec)


def serving(fleet: Fleet, **spec: Any) -> str:
    """A fleet with the model in the memory of every server; the router's URL."""
    fleet.apply(servers(**spec), distribution("m", SMALL), router())
    fleet.ready(MODEL_DISTRIBUTION, "m")
    for pod in fleet.pods("a"):
        body = {"model": SMALL}
        url = f"http://{pod['status']['podIP']}:11434/api/generate"
        httpx2.post(url, json=body, timeout=60, trust_env=False).raise_for_status()
    return fleet.url()


def resident(fleet: Fleet) -> dict[str, int]:
    """How many servers say that they have a model in memory."""
    counts: dict[str, int] = {}
    for pod in fleet.pods("a"):
        url = f"http://{pod['status']['podIP']}:11434/api/ps"
        for model in httpx2.get(url, trust_env=False).json()["models"]:
            counts[model["name"]] = counts.get(model["name"], 0) + 1
    return counts


def another(fleet: Fleet, name: str, uid: str) -> None:
    """Wait until a server's pod is another one."""
    eventually(f"{name} is another", lambda: uids(fleet).get(name, uid) != uid)


def uids(fleet: Fleet) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in fleet.pods("a")}


@pytest.mark.parametrize("storage", [{"size": "1Gi"}, {"ephemeral": True}], ids=["kept", "pulled"])
def test_an_update_rolls_one_by_one_and_cuts_no_stream(fleet: Fleet, storage: Object) -> None:
    url = serving(fleet, replicas=3, storage=storage)
    before = uids(fleet)
    least = 3
    with chatting(url, SMALL, STREAMS) as chats:
        fleet.patch(OLLAMA_NODE, "a", {"spec": {"server": {"keepAlive": "1h"}}})

        def replaced() -> bool:
            nonlocal least
            status = fleet.status(OLLAMA_NODE, "a")
            least = min(least, status["readyReplicas"])
            now = uids(fleet)
            return len(now) == 3 and not {*now.values()} & {*before.values()}

        eventually("every pod is another", replaced, within=120)
        fleet.ready(OLLAMA_NODE, "a")
    assert chats.asked > STREAMS
    assert chats.lost == 0, chats.reasons
    assert least == 2
    # each has its model in memory again, without a client having asked for it there
    assert resident(fleet) == {SMALL: 3}
    assert not any(server.get("restoring") for server in fleet.servers("a").values())


def test_a_restart_that_kubectl_orders_is_as_gentle(fleet: Fleet, kubectl: Kubectl) -> None:
    url = serving(fleet, replicas=2, storage={"size": "1Gi"})
    before = uids(fleet)
    with chatting(url, SMALL, STREAMS) as chats:
        kubectl("rollout", "restart", "statefulset/a", "-n", fleet.namespace)
        for name in ("a-1", "a-0"):
            another(fleet, name, before[name])
        fleet.ready(OLLAMA_NODE, "a")
    assert chats.lost == 0, chats.reasons
    assert resident(fleet) == {SMALL: 2}


def test_an_update_goes_on_where_an_operator_was_killed(fleet: Fleet) -> None:
    url = serving(fleet, replicas=3, storage={"size": "1Gi"})
    before = uids(fleet)
    with chatting(url, SMALL, STREAMS) as chats:
        fleet.patch(OLLAMA_NODE, "a", {"spec": {"server": {"keepAlive": "1h"}}})
        for name in ("a-2", "a-1"):
            another(fleet, name, before[name])
            (operator,) = fleet.api.all(POD, OPERATOR, "app.kubernetes.io/component=operator")
            fleet.cluster.kill_pod_process(OPERATOR, operator["metadata"]["name"])
        fleet.until(OLLAMA_NODE, "a", lambda _: not {*uids(fleet).values()} & {*before.values()})
        fleet.ready(OLLAMA_NODE, "a")
    assert chats.lost == 0, chats.reasons
    assert resident(fleet) == {SMALL: 3}


def test_scaling_down_lets_streams_finish_and_ends_soon_after(
    fleet: Fleet, kubectl: Kubectl
) -> None:
    url = serving(fleet, replicas=3)
    with chatting(url, SMALL, STREAMS) as chats:
        began = time.monotonic()
        kubectl("scale", "ollamanode/a", "--replicas=1", "-n", fleet.namespace)
        eventually("one is left", lambda: list(uids(fleet)) == ["a-0"])
        took = time.monotonic() - began
        fleet.ready(OLLAMA_NODE, "a")
    assert chats.lost == 0, chats.reasons
    # they slept no longer than there was something to wait for, far less than drainTimeout
    assert took < 60


def test_a_machine_that_is_emptied_hands_its_server_over(fleet: Fleet, kubectl: Kubectl) -> None:
    gpu = {"vendor": "nvidia"}
    url = serving(fleet, replicas=2, gpu=gpu)
    machine = fleet.servers("a")["a-0"]["kubernetesNode"]
    try:
        with chatting(url, SMALL, STREAMS) as chats:
            kubectl("cordon", machine)

            def drains() -> bool:
                server = fleet.servers("a")["a-0"]
                return server["state"] == "Draining" and "cordoned" in server["message"]

            eventually("its server takes nothing new", drains)
            chosen = "--pod-selector=ollamafleet.dev/ollamanode=a"
            drain = ("drain", machine, "--ignore-daemonsets", "--delete-emptydir-data", chosen)
            kubectl(*drain, "--timeout=90s")

            def moved() -> bool:
                server = fleet.servers("a")["a-0"]
                return bool(server["state"] == "Ready" and server["kubernetesNode"] != machine)

            eventually("it runs elsewhere", moved, within=90)
            eventually("with its model in memory", lambda: resident(fleet) == {SMALL: 2})
            fleet.ready(OLLAMA_NODE, "a")
        assert chats.lost == 0, chats.reasons
    finally:
        kubectl("uncordon", machine)


def test_cordoned_servers_finish_their_streams_and_others_take_the_new_ones(fleet: Fleet) -> None:
    url = serving(fleet, replicas=1)
    other = servers(replicas=1)
    other["metadata"]["name"] = "b"
    fleet.apply(other)
    both = [("a-0", "Installed"), ("b-0", "Installed")]
    eventually("both have it", lambda: told(fleet.tasks("m"), "server", "state") == both)
    before = uids(fleet)
    a, b = (fleet.emulator(pod) for name in "ab" for pod in fleet.pods(name))
    with chatting(url, SMALL, STREAMS) as chats:
        eventually("some are answered there", lambda: a.chats()[0] > 1)
        fleet.patch(OLLAMA_NODE, "a", {"spec": {"cordoned": True}})
        fleet.until(
            OLLAMA_NODE, "a", lambda obj: obj["status"]["servers"][0]["state"] == "Draining"
        )
        eventually("they have ended", lambda: a.chats()[0] == 0, within=20)
        asked, others = a.chats()[1], b.chats()[1]
        eventually("many go elsewhere", lambda: b.chats()[1] > others + STREAMS)
        assert a.chats()[1] == asked
    assert chats.lost == 0, chats.reasons
    assert uids(fleet) == before


def test_a_machine_that_is_uncordoned_serves_again(fleet: Fleet, kubectl: Kubectl) -> None:
    fleet.apply(servers())
    fleet.ready(OLLAMA_NODE, "a")
    machine = fleet.servers("a")["a-0"]["kubernetesNode"]
    kubectl("cordon", machine)
    try:
        eventually("it drains", lambda: fleet.servers("a")["a-0"]["state"] == "Draining")
        message = fleet.status(OLLAMA_NODE, "a")["conditions"][0]["message"]
        assert f"machine {machine} is cordoned" in message
        (pod,) = fleet.pods("a")
        assert "ollamafleet.dev/draining" in pod["metadata"]["labels"]
    finally:
        kubectl("uncordon", machine)
    fleet.ready(OLLAMA_NODE, "a")
    (pod,) = fleet.pods("a")
    assert "ollamafleet.dev/draining" not in pod["metadata"]["labels"]


def test_deletion_lets_streams_finish(fleet: Fleet) -> None:
    url = serving(fleet, replicas=1)
    with chatting(url, SMALL, 3) as chats:
        fleet.delete(OLLAMA_NODE, "a")
        leaving = eventually(
            "its pod is on its way out",
            lambda: [one for one in fleet.pods("a") if one["metadata"].get("deletionTimestamp")],
            within=90,
        )
    # those under way when it began to go ended whole; later ones found no server
    assert chats.begun_and_cut == 0, chats.reasons
    fleet.gone(POD, leaving[0]["metadata"]["name"])


def test_an_update_that_breaks_servers_stops_at_the_first_and_is_taken_back(fleet: Fleet) -> None:
    serving(fleet, replicas=3, storage={"size": "1Gi"})
    before = uids(fleet)
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"image": {"tag": "0.0.0-none", "repository": "x/y"}}})
    fleet.stalls(OLLAMA_NODE, "a", "ImagePullFailed")
    now = uids(fleet)
    assert [name for name in now if now[name] != before[name]] == ["a-2"]
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"image": None}})
    fleet.ready(OLLAMA_NODE, "a")
    now = uids(fleet)
    assert [name for name in now if now[name] != before[name]] == ["a-2"]
    assert resident(fleet) == {SMALL: 3}


def test_a_model_that_does_not_load_again_stops_the_update(fleet: Fleet) -> None:
    serving(fleet, replicas=2, storage={"size": "1Gi"})
    before = uids(fleet)
    fault = '[{"kind": "error", "path": "/api/generate", "message": "out of memory"}]'
    worse = [*SERVER["env"], {"name": "EMULATOR_FAULTS", "value": fault}]
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"server": {"env": worse}}})
    message = fleet.stalls(OLLAMA_NODE, "a", "LoadFailed", within=90)
    assert f"a-1: {SMALL} was in memory before, and does not load again: " in message
    assert "out of memory" in message
    assert uids(fleet)["a-0"] == before["a-0"]
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"server": SERVER}})
    fleet.ready(OLLAMA_NODE, "a")
    assert resident(fleet) == {SMALL: 2}
    assert uids(fleet)["a-0"] == before["a-0"]
