"""Queues on a real Kubernetes: one slot for many, and what each is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, POD, Object
from tests.cluster.fleet import SMALL, Fleet, distribution, ollama_node, router
from tests.cluster.waiting import eventually

MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]


def fleet_with(fleet: Fleet, answer: int, **spec: Any) -> str:
    """One server with one slot, an answer's length in tokens of 20 ms; the router's URL."""
    env = {"EMULATOR_TOKENS_PER_SECOND": "50", "EMULATOR_ANSWER_TOKENS": str(answer)}
    fleet.apply(ollama_node(server_env=env), distribution("m", SMALL), router(**spec))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    return fleet.url()


def ask(url: str) -> httpx2.Response:
    body = {"model": SMALL, "messages": MESSAGES, "stream": False}
    return httpx2.post(f"{url}/api/chat", json=body, timeout=60, trust_env=False)


def routers(fleet: Fleet) -> list[Object]:
    return fleet.all(POD, "ollamafleet.dev/router=chat")


def told(pod: Object) -> Object:
    """What a router tells the other replicas."""
    url = f"http://{pod['status']['podIP']}:9090/inflight"
    found: Object = httpx2.get(url, trust_env=False).json()
    return found


def in_flight(pod: Object) -> int:
    return sum(sum(models.values()) for models in told(pod)["inFlight"].values())


def knows_the_model(url: str) -> Callable[[], bool]:
    return lambda: bool(httpx2.get(f"{url}/api/tags", trust_env=False).json()["models"])


def test_one_is_served_one_waits_and_the_third_is_told_when_to_come_back(fleet: Fleet) -> None:
    url = fleet_with(fleet, 200, queue={"size": 1, "timeout": "30s"})
    eventually("the router knows the model", knows_the_model(url))
    (pod,) = routers(fleet)
    ended: list[int] = []

    def one(number: int) -> httpx2.Response:
        answer = ask(url)
        ended.append(number)
        return answer

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one, 1)
        eventually("the slot is taken", lambda: in_flight(pod) == 1)
        second = pool.submit(one, 2)
        eventually("one waits", lambda: told(pod)["waiting"] == {SMALL: 1})
        third = ask(url)
        assert third.status_code == 503
        assert 1 <= int(third.headers["retry-after"]) <= 600
        assert f"every server with '{SMALL}' is busy and 1 request waits already" in third.text
        assert ended == []
        assert first.result().status_code == second.result().status_code == 200
    assert ended == [1, 2]


def test_two_replicas_share_one_slot(fleet: Fleet) -> None:
    url = fleet_with(fleet, 25, replicas=2)
    eventually("the router knows the model", knows_the_model(url))
    pods = routers(fleet)
    urls = [f"http://{pod['status']['podIP']}:11434" for pod in pods]
    for one in urls:
        eventually("it knows the model", knows_the_model(one))
    over = looks = 0
    with ThreadPoolExecutor(12) as pool:
        asked: list[Future[httpx2.Response]] = [pool.submit(ask, urls[n % 2]) for n in range(12)]
        while not all(one.done() for one in asked):
            loads = [in_flight(pod) for pod in pods]
            looks += 1
            over += sum(loads) > 1
            assert sum(loads) <= 2
        assert [one.result().status_code for one in asked] == [200] * 12
    # a moment at the start, and the moments between looking at the one and at the other
    assert over <= looks / 4
