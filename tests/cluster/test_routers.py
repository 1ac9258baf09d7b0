"""Routers on a real Kubernetes: one address for a fleet, whatever becomes of its servers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Event

import httpx2
import pytest

from ollama_fleet.kube.kinds import (
    DEPLOYMENT,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    POD,
    ROLE_BINDING,
    ROUTER,
    SERVICE,
    SERVICE_ACCOUNT,
)
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import OPERATOR, SMALL, Api, Fleet, distribution, ollama_node, router
from tests.cluster.waiting import eventually

MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
STREAMS = 24


@contextmanager
def serving(fleet: Fleet, *, replicas: int = 1, **server_env: str) -> Iterator[httpx2.Client]:
    """A fleet that answers chats, and a client of its router."""
    fleet.apply(
        ollama_node(replicas=replicas, server_env=server_env), distribution("m", SMALL), router()
    )
    fleet.ready(MODEL_DISTRIBUTION, "m")
    with httpx2.Client(base_url=fleet.url(), timeout=30, trust_env=False) as client:
        eventually(
            "the router knows the model and every server",
            lambda: _ready(fleet) == replicas and client.get("/api/tags").json()["models"],
        )
        yield client


def _ready(fleet: Fleet) -> int:
    """How many servers the router's own metrics say are Ready."""
    (pod, *_) = fleet.all(POD, "ollamafleet.dev/router=chat")
    text = httpx2.get(f"http://{pod['status']['podIP']}:9090/metrics", trust_env=False).text
    return sum(
        line.startswith("ollama_fleet_router_server_ready{") and line.endswith(" 1.0")
        for line in text.splitlines()
    )


def ask(client: httpx2.Client, **body: object) -> httpx2.Response:
    return client.post("/api/chat", json={"model": SMALL, "messages": MESSAGES, **body})


def test_chats_in_both_forms_and_what_tenants_may_not(fleet: Fleet) -> None:
    with serving(fleet) as client:
        _owned(fleet, str(client.base_url))
        _chats(client)
        _refusals(client)
    fleet.tells(ROUTER, "chat", "Ready")
    (pod,) = fleet.pods("a")
    assert set(fleet.emulator(pod).installed()) == {SMALL}


def test_the_access_log_is_switched_on_without_a_new_pod(fleet: Fleet, kubectl: Kubectl) -> None:
    with serving(fleet) as client:
        (before,) = fleet.all(POD, "ollamafleet.dev/router=chat")
        name = before["metadata"]["name"]
        fleet.patch(ROUTER, "chat", {"spec": {"accessLog": True}})

        def logged() -> bool:
            ask(client, stream=False)
            return f'"resolved":"{SMALL}"' in kubectl("logs", name, "-n", fleet.namespace)

        eventually("a call is in the log", logged)
        (after,) = fleet.all(POD, "ollamafleet.dev/router=chat")
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert MESSAGES[0]["content"] not in kubectl("logs", name, "-n", fleet.namespace)


def _owned(fleet: Fleet, url: str) -> None:
    status = fleet.status(ROUTER, "chat")
    assert status["url"] == url.rstrip("/")
    assert status["servers"] == {"ready": 1, "total": 1, "summary": "1/1"}
    fleet.until(ROUTER, "chat", lambda obj: obj["status"]["models"] == [SMALL])
    for kind, name in (
        (DEPLOYMENT, "chat-router"),
        (SERVICE, "chat"),
        (SERVICE_ACCOUNT, "chat-router"),
        (ROLE_BINDING, "chat-router"),
    ):
        owners = (fleet.get(kind, name) or {})["metadata"]["ownerReferences"]
        assert [owner["kind"] for owner in owners] == ["Router"]


def _chats(client: httpx2.Client) -> None:
    whole = ask(client, stream=False).json()
    assert whole["done"] is True
    assert whole["message"]["content"]
    lines = [json.loads(line) for line in ask(client).text.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == whole["message"]["content"]
    assert [line["done"] for line in lines[-2:]] == [False, True]

    body = {"model": SMALL, "messages": MESSAGES}
    answer = client.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == whole["message"]["content"]
    streamed = client.post("/v1/chat/completions", json={**body, "stream": True}).text
    events = [line.removeprefix("data: ") for line in streamed.splitlines() if line]
    assert events[-1] == "[DONE]"
    told = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    assert "".join(told) == whole["message"]["content"]


def _refusals(client: httpx2.Client) -> None:
    body = {"model": SMALL, "messages": MESSAGES}
    unknown = ask(client, model="no-such-model")
    assert unknown.status_code == 404
    assert unknown.json() == {"error": "model 'no-such-model' not found"}
    unknown = client.post("/v1/chat/completions", json={**body, "model": "no-such-model"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["message"] == "model 'no-such-model' not found"

    assert client.post("/api/pull", json={"model": "qwen3:4b"}).status_code == 403
    assert client.request("DELETE", "/api/delete", json={"model": SMALL}).status_code == 403
    assert client.get("/api/ps").status_code == 403


class Streams:
    """Chats one after another on several connections, until stopped."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stop = Event()
        self.whole = 0
        self.cut: list[str] = []
        self.refused: list[str] = []

    def has(self, count: int) -> bool:
        """Whether so many answers are whole."""
        return self.whole >= count

    @contextmanager
    def running(self, pool: ThreadPoolExecutor, count: int) -> Iterator[None]:
        """Keep so many going at once; all have ended afterwards."""
        tasks = [pool.submit(self._run) for _ in range(count)]
        try:
            yield
        finally:
            self.stop.set()
        for task in tasks:
            task.result()

    def _run(self) -> None:
        with httpx2.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            while not self.stop.is_set():
                self._one(client)

    def _one(self, client: httpx2.Client) -> None:
        seen, done = 0, False
        body = {"model": SMALL, "messages": MESSAGES}
        try:
            with client.stream("POST", "/api/chat", json=body) as answer:
                if answer.status_code != 200:
                    self.refused.append(f"{answer.status_code} {answer.read()!r}")
                    return
                for line in answer.iter_lines():
                    piece = json.loads(line)
                    seen += "message" in piece
                    done = piece.get("done", False)
        except httpx2.HTTPError as error:
            (self.cut if seen else self.refused).append(repr(error))
            return
        if done:
            self.whole += 1
        else:
            (self.cut if seen else self.refused).append("ended early")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(STREAMS) as pool:
        yield pool


def test_a_killed_server_costs_at_most_the_streams_it_had_begun(
    fleet: Fleet, pool: ThreadPoolExecutor
) -> None:
    with serving(fleet, replicas=2, EMULATOR_TOKENS_PER_SECOND="400") as client:
        streams = Streams(str(client.base_url))
        with streams.running(pool, STREAMS):
            eventually("the load is under way", lambda: streams.whole >= STREAMS)
            victim = next(pod for pod in fleet.pods("a") if pod["metadata"]["name"] == "a-0")
            fleet.kill(victim)
            enough = streams.whole + STREAMS
            eventually("the other serves on", lambda: streams.whole >= enough)
            fleet.until(
                OLLAMA_NODE, "a", lambda obj: obj["status"]["ready"] == "2/2" and _restarts(fleet)
            )
    assert streams.refused == []
    assert len(streams.cut) <= 1  # one server has one slot: what waited went to the other


def _restarts(fleet: Fleet) -> int:
    (pod,) = [pod for pod in fleet.pods("a") if pod["metadata"]["name"] == "a-0"]
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


@contextmanager
def no_api_server(fleet: Fleet) -> Iterator[None]:
    """It takes connections and answers nothing."""
    pid = fleet.cluster.state()["programs"]["kube-apiserver"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_without_the_api_server_and_the_operator_traffic_goes_on(
    fleet: Fleet, pool: ThreadPoolExecutor, api: Api
) -> None:
    with serving(fleet, replicas=2, EMULATOR_TOKENS_PER_SECOND="400") as client:
        (operator,) = api.all(POD, OPERATOR, "app.kubernetes.io/component=operator")
        victim = next(pod for pod in fleet.pods("a") if pod["metadata"]["name"] == "a-0")
        streams = Streams(str(client.base_url))
        with no_api_server(fleet), streams.running(pool, STREAMS):
            fleet.cluster.kill_pod_process(OPERATOR, operator["metadata"]["name"])
            eventually("all are served", partial(streams.has, 2 * STREAMS))
            assert streams.cut == []
            # the router finds out by itself that a server has died
            fleet.kill(victim)
            eventually("the other serves on", partial(streams.has, 10 * STREAMS))
        fleet.until(
            OLLAMA_NODE, "a", lambda obj: obj["status"]["ready"] == "2/2" and _restarts(fleet)
        )
        fleet.ready(ROUTER, "chat")
    assert streams.refused == []
    assert len(streams.cut) <= 1


def test_a_router_is_scaled_without_a_lost_request(fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    with serving(fleet, EMULATOR_TOKENS_PER_SECOND="2000") as client:
        streams = Streams(str(client.base_url))
        with streams.running(pool, 4):
            for replicas in (2, 1):
                fleet.patch(ROUTER, "chat", {"spec": {"replicas": replicas}})
                ready = fleet.ready(ROUTER, "chat")["status"]["ready"]
                assert ready == f"{replicas}/{replicas}"
                enough = streams.whole + 8
                eventually("it answers", partial(streams.has, enough))
    assert streams.refused == []
    assert streams.cut == []


def test_names_for_models_follow_the_spec(fleet: Fleet) -> None:
    def names(*routes: object) -> None:
        fleet.patch(ROUTER, "chat", {"spec": {"models": list(routes)}})

    def listed() -> set[str]:
        return {one["name"] for one in client.get("/api/tags").json()["models"]}

    with serving(fleet) as client:
        short = {"num_predict": 3}
        names({"name": "fast", "targets": [{"model": SMALL}], "defaults": short})
        eventually("the name is listed", lambda: listed() == {SMALL, "fast"})
        answer = ask(client, model="fast", stream=False).json()
        assert (answer["model"], answer["eval_count"]) == (SMALL, 3)
        told = ["fast", SMALL]
        fleet.until(ROUTER, "chat", lambda obj: obj["status"]["models"] == told)
        assert fleet.ready(ROUTER, "chat")["status"]["modelCount"] == 2

        # in a circle: refused, and the last good names stay
        names(
            {"name": "fast", "targets": [{"model": "slow"}]},
            {"name": "slow", "targets": [{"model": "fast"}]},
        )
        message = fleet.stalls(ROUTER, "chat", "InvalidSpec")
        assert "'slow' behind 'fast' is itself a name" in message
        assert ask(client, model="fast").status_code == 200

        names({"name": SMALL, "targets": [{"model": "missing"}], "fallbacks": [SMALL]})
        eventually("the old name is gone", lambda: listed() == {SMALL})
        assert ask(client).status_code == 200
        assert ask(client, model="fast").status_code == 404
        fleet.ready(ROUTER, "chat")


def test_deletion_leaves_nothing(fleet: Fleet) -> None:
    fleet.apply(ollama_node(), router())
    fleet.ready(ROUTER, "chat")
    fleet.delete(ROUTER, "chat")
    # Kubernetes' collector of garbage learns of new kinds of owners every 30 s.
    for kind, name in (
        (DEPLOYMENT, "chat-router"),
        (SERVICE, "chat"),
        (SERVICE_ACCOUNT, "chat-router"),
        (ROLE_BINDING, "chat-router"),
    ):
        fleet.gone(kind, name, within=90)
    eventually("its pods are gone", lambda: not fleet.all(POD, "ollamafleet.dev/router=chat"))


def test_a_router_in_trouble_says_so(fleet: Fleet) -> None:
    def message(reason: str) -> str:
        return fleet.stalls(ROUTER, "chat", reason)

    fleet.apply(router())
    assert "no OllamaNode in this namespace" in message("NoServers")
    fleet.apply(ollama_node(), router(image={"repository": "wrong/image", "tag": "1"}))
    assert "wrong/image:1" in message("ImagePullFailed")
    nowhere = {"nodeSelector": {"example.com/room": "none"}}
    fleet.patch(ROUTER, "chat", {"spec": {"image": None, "template": nowhere}})
    assert "correct spec.template" in message("Unschedulable")
    fleet.patch(ROUTER, "chat", {"spec": {"template": None}})
    fleet.ready(ROUTER, "chat")
    fleet.tells(ROUTER, "chat", "NoServers", "ImagePullFailed", "Unschedulable", "Ready")
