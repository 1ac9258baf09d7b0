"""What people see of a running fleet by the console, change, and are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, POD, ROUTER
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import (
    LARGE,
    OPERATOR,
    SMALL,
    Api,
    Fleet,
    distribution,
    ollama_node,
    router,
)
from tests.cluster.people import People, Stream
from tests.cluster.waiting import eventually

PODS = "app.kubernetes.io/component=console"


@pytest.fixture(scope="module")
def url(operator: None, kubectl: Kubectl, api: Api) -> str:
    """Where the installed console answers."""
    rolled_out = ("rollout", "status", "-n", OPERATOR, "--timeout=60s")
    kubectl(*rolled_out, f"deployment/{OPERATOR}-console")
    (pod,) = eventually("the console runs", lambda: api.all(POD, OPERATOR, PODS))
    return f"http://{pod['status']['podIP']}:8080"


def warnings(stream: Stream, name: str) -> list[Any]:
    """The Events that tell what is wrong with a resource."""
    return [one for one in stream.all("event") if (one["name"], one["type"]) == (name, "Warning")]


def test_what_people_see_change_and_are_refused(
    url: str, fleet: Fleet, kubectl: Kubectl, tmp_path: Path
) -> None:
    here = fleet.namespace
    fleet.apply(ollama_node("a"), router("chat"), distribution("m", SMALL))
    people = People(fleet, kubectl, tmp_path)
    fleet.ready(MODEL_DISTRIBUTION, "m")

    def ask(name: str, call: str, body: Any = None, status: int = 200) -> Any:
        answer = people.ask(name, url, call, body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def shown(kind: str, name: str, field: str) -> str:
        return kubectl("get", kind, name, "-n", here, "-o", f"jsonpath={{{field}}}")

    # who one is
    rights = {"cordon": True, "distribute": True, "change": True}
    assert ask("editor", "GET /api/me") == {
        "name": f"system:serviceaccount:{here}:editor",
        "anonymous": False,
        "namespaces": [{"namespace": here, **rights}],
    }
    none = dict.fromkeys(rights, False)
    assert ask("viewer", "GET /api/me")["namespaces"] == [{"namespace": here, **none}]
    assert ask("stranger", "GET /api/me")["namespaces"] == []

    with Stream(people, "viewer", url, here) as stream:
        stream.has("node", "a", cordoned=False, ready=True, replicas=1)
        stream.has("distribution", "m", suspended=False, installed=1, models=[SMALL])

        # a viewer changes nothing
        cordon, suspend = f"PATCH /api/nodes/{here}.a", f"PATCH /api/distributions/{here}.m"
        for call, body, kind in (
            (cordon, {"cordoned": True}, "ollamanodes"),
            (suspend, {"suspended": True}, "modeldistributions"),
        ):
            sentence = ask("viewer", call, body, 403)["error"]
            assert f"may not patch {kind} in namespace {here}. Ask for" in sentence
        assert "cordoned" in ask("editor", cordon, {"cordoned": "yes"}, 400)["error"]
        assert "no OllamaNode" in ask("editor", f"{cordon}x", {"cordoned": True}, 404)["error"]

        # what an editor changes shows everywhere
        assert ask("editor", cordon, {"cordoned": True})["cordoned"]
        stream.has("node", "a", cordoned=True)
        assert shown("ollamanode", "a", ".spec.cordoned") == "true"
        assert not ask("editor", cordon, {"cordoned": False})["cordoned"]
        assert ask("editor", suspend, {"suspended": True})["suspended"]
        stream.has("distribution", "m", suspended=True)
        assert shown("modeldistribution", "m", ".spec.suspend") == "true"
        assert [one["cordoned"] for one in ask("viewer", "GET /api/nodes")] == [False]
        assert [one["suspended"] for one in ask("viewer", "GET /api/distributions")] == [True]

        # what was given up is tried again
        (pod,) = fleet.pods("a")
        fleet.emulator(pod).fault("error", path="/api/pull", message="no space left on device")
        fleet.apply(distribution("n", LARGE, rollout={"retry": {"attempts": 1}}))
        fleet.stalls(MODEL_DISTRIBUTION, "n", "DiskFull")
        retry = f"POST /api/tasks/{fleet.tasks('n')[0]['id']}/retry"
        assert "may not patch modeldistributions" in ask("viewer", retry, None, 403)["error"]
        failed = eventually("its Event comes", lambda: warnings(stream, "n"))
        assert {(one["kind"], one["reason"]) for one in failed} == {
            ("ModelDistribution", "DiskFull")
        }
        fleet.emulator(pod).mend()
        assert ask("editor", retry, None, 202)["status"] == "pending"
        fleet.ready(MODEL_DISTRIBUTION, "n")
        assert "only one that was given up" in ask("editor", retry, None, 409)["error"]

        # what passes through a router shows while somebody looks
        entrance = fleet.url("chat")
        stream.has("traffic", "chat", requests_per_second=0.0, first_token_p50_s=None)
        chat = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}]}
        for _ in range(3):
            httpx2.post(f"{entrance}/api/chat", json=chat, trust_env=False).raise_for_status()

        def passing() -> Any:
            told = stream.has("traffic", "chat")
            return told if told["requests_per_second"] else None

        told = eventually("the chats show", passing)
        assert told["tokens_per_second"] > 0
        assert 0 < told["first_token_p50_s"] <= told["first_token_p99_s"]
        (server,) = told["servers"]
        assert (server["name"], server["state"], server["breaker"]) == ("a-0", "Ready", "closed")
        assert server["decisions"][0]["per_second"] > 0
        (found,) = ask("viewer", "GET /api/routers")
        assert (found["name"], found["traffic"]["servers"][0]["name"]) == ("chat", "a-0")
        fleet.delete(ROUTER, "chat")
        stream.has("router-removed", "chat")
