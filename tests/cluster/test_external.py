"""Servers elsewhere, from the first answer to the last: an operator that looks every second."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from dev.cluster import Cluster
from dev.cluster.programs import free_ports
from ollama_fleet.kube.kinds import DEPLOYMENT, MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER
from tests.cluster.chatting import chatting
from tests.cluster.conftest import Kubectl
from tests.cluster.elsewhere import emulator, registry_environment
from tests.cluster.fleet import (
    OPERATOR,
    SMALL,
    Api,
    Fleet,
    distribution,
    external,
    router,
    told,
)
from tests.cluster.waiting import eventually

QWEN = "qwen3:1.7b"
PERIODS = {
    "--probe-interval=30s": "--probe-interval=1s",
    "--offline-after=60s": "--offline-after=3s",
}


@pytest.fixture(scope="module", autouse=True)
def impatient(operator: None, api: Api, kubectl: Kubectl) -> Iterator[None]:
    """The operator with short periods."""
    deployment = api.get(DEPLOYMENT, OPERATOR, OPERATOR)
    assert deployment is not None
    before = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert PERIODS.keys() <= set(before)
    _run_with(kubectl, [PERIODS.get(one, one) for one in before])
    yield
    _run_with(kubectl, before)


def _run_with(kubectl: Kubectl, arguments: list[str]) -> None:
    path = "/spec/template/spec/containers/0/args"
    change = json.dumps([{"op": "replace", "path": path, "value": arguments}])
    kubectl("patch", f"deployment/{OPERATOR}", "-n", OPERATOR, "--type=json", "-p", change)
    kubectl("rollout", "status", f"deployment/{OPERATOR}", "-n", OPERATOR, "--timeout=60s")


@pytest.fixture
def environment(cluster: Cluster) -> dict[str, str]:
    return {**registry_environment(cluster), "EMULATOR_TOKENS_PER_SECOND": "1000"}


def status_of_chat(url: str) -> int:
    body = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    return httpx2.post(f"{url}/api/chat", json=body, timeout=20, trust_env=False).status_code


def routed(fleet: Fleet, url: str) -> str:
    """A server elsewhere with a model, that answers through a router; the router's URL."""
    fleet.apply(external("box", url), distribution("m", SMALL), router())
    fleet.ready(MODEL_DISTRIBUTION, "m")
    address = fleet.url()
    eventually("the router has it", lambda: status_of_chat(address) == 200, within=15)
    return address


def test_a_server_elsewhere_is_pulled_to_lost_found_and_updated(
    fleet: Fleet, tmp_path: Path, environment: dict[str, str]
) -> None:
    (port,) = free_ports(1)
    with emulator(port, tmp_path, **environment) as url:
        address = routed(fleet, url)
    message = fleet.stalls(OLLAMA_NODE, "box", "Unreachable", within=20)
    assert f"127.0.0.1:{port} cannot be reached" in message
    assert "Check that Ollama runs there" in message
    server = fleet.servers("box")["box"]
    # what it said last stays known
    assert (server["state"], server["installed"], server["message"]) == ("Offline", 1, message)
    fleet.until(ROUTER, "chat", lambda obj: obj["status"]["servers"]["ready"] == 0)
    fleet.rests(3)

    with emulator(port, tmp_path, **environment, EMULATOR_VERSION="0.35.1"):
        fleet.ready(OLLAMA_NODE, "box", within=20)
        status = fleet.until(
            OLLAMA_NODE,
            "box",
            lambda obj: obj["status"] if obj["status"]["version"] == "0.35.1" else None,
        )
        assert status["servers"][0]["registeredAt"] == server["registeredAt"]
        assert "message" not in status["servers"][0]
        eventually("chats are answered", lambda: status_of_chat(address) == 200, within=15)
    fleet.tells(OLLAMA_NODE, "box", "Ready", "Unreachable", "Ready")


def test_a_cordoned_server_elsewhere_gets_neither_chats_nor_pulls(
    fleet: Fleet, tmp_path: Path, environment: dict[str, str]
) -> None:
    (port,) = free_ports(1)
    with emulator(port, tmp_path, **environment) as url:
        address = routed(fleet, url)

        fleet.patch(OLLAMA_NODE, "box", {"spec": {"cordoned": True}})
        fleet.until(
            OLLAMA_NODE, "box", lambda obj: obj["status"]["servers"][0]["state"] == "Draining"
        )
        eventually("no chat goes there", lambda: status_of_chat(address) == 503, within=15)
        fleet.apply(distribution("m", SMALL, QWEN))
        eventually(
            "the pull waits",
            lambda: (
                told(fleet.tasks("m"), "model", "state", "reason")
                == [(SMALL, "Installed", "Installed"), (QWEN, "Waiting", "ServerNotReady")]
            ),
        )

        fleet.patch(OLLAMA_NODE, "box", {"spec": {"cordoned": False}})
        fleet.ready(MODEL_DISTRIBUTION, "m")
        eventually("chats go there", lambda: status_of_chat(address) == 200, within=15)


def test_requests_under_way_are_told(
    fleet: Fleet, tmp_path: Path, environment: dict[str, str]
) -> None:
    (port,) = free_ports(1)
    slow = {"EMULATOR_TOKENS_PER_SECOND": "20", "EMULATOR_ANSWER_TOKENS": "60"}

    def active(count: int) -> None:
        fleet.until(
            OLLAMA_NODE,
            "box",
            lambda obj: obj["status"]["servers"][0].get("activeRequests") == count,
            within=20,
        )

    with emulator(port, tmp_path, **environment | slow) as url:
        address = routed(fleet, url)
        active(0)
        with chatting(address, SMALL, 1) as chats:
            active(1)
        active(0)
        assert chats.lost == 0, chats.reasons
