"""A server that does not answer with a model any more: found, relieved and replaced."""

from __future__ import annotations

import threading
import time

import httpx2

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER
from tests.cluster.fleet import LARGE, SMALL, Fleet, distribution, ollama_node, router
from tests.cluster.waiting import eventually

MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
SLOW = {
    "OLLAMA_FLEET_SERVER": "emulator",
    "EMULATOR_TOKENS_PER_SECOND": "1",
    "EMULATOR_ANSWER_TOKENS": "90",
}


def ask(url: str, model: str, seconds: float = 120) -> tuple[int, str]:
    """A streamed chat's status, and its last line."""
    body = {"model": model, "messages": MESSAGES}
    answer = httpx2.post(f"{url}/api/chat", json=body, timeout=seconds, trust_env=False)
    return answer.status_code, answer.text.splitlines()[-1]


def leave_early(url: str, model: str) -> None:
    try:
        ask(url, model, seconds=1)
    except httpx2.ReadTimeout:
        return
    raise AssertionError("it was answered")


def test_a_wedged_server_is_replaced_when_its_other_streams_are_done(fleet: Fleet) -> None:
    env = [{"name": name, "value": value} for name, value in SLOW.items()]
    server = {"maxLoadedModels": 2, "env": env}
    fleet.apply(ollama_node(server=server), distribution("m", SMALL, LARGE), router())
    fleet.ready(MODEL_DISTRIBUTION, "m")
    url = fleet.url()
    fleet.until(ROUTER, "chat", lambda obj: obj["status"]["models"] == [LARGE, SMALL])
    (before,) = fleet.pods("a")
    body = {"model": SMALL, "messages": MESSAGES, "options": {"num_predict": 1}}
    chat = {"url": f"{url}/api/chat", "json": body, "timeout": 60, "trust_env": False}
    eventually("it answers", lambda: httpx2.post(**chat).status_code == 200)  # type: ignore[arg-type]
    fleet.emulator(before).fault("stuck", model=SMALL)
    leave_early(url, SMALL)

    other: list[tuple[int, str]] = []
    stream = threading.Thread(target=lambda: other.append(ask(url, LARGE)))
    waits = threading.Thread(target=lambda: other.append(ask(url, SMALL)))
    stream.start()
    waits.start()

    def told() -> bool:
        server = fleet.servers("a")["a-0"]
        return server.get("wedged") == [SMALL] and server["wedgedRestarts"] == 1

    eventually("it is found out", told, within=90)
    assert stream.is_alive()
    began = time.monotonic()
    eventually("its pod is another", lambda: _uid(fleet) != before["metadata"]["uid"], within=120)
    stream.join(60)
    waits.join(60)
    # the other model's stream ended whole, and before its server did
    assert (200, True) in [(status, '"done":true' in last) for status, last in other]
    assert time.monotonic() - began < 200
    fleet.ready(OLLAMA_NODE, "a", within=90)
    resident = fleet.servers("a")["a-0"]["resident"]
    assert set(resident) == {SMALL, LARGE}
    assert not fleet.servers("a")["a-0"].get("wedged")
    assert "Wedged" in fleet.reasons(OLLAMA_NODE, "a")
    assert httpx2.post(**chat).status_code == 200  # type: ignore[arg-type]


def _uid(fleet: Fleet) -> str:
    pods = fleet.pods("a")
    return pods[0]["metadata"]["uid"] if pods else ""
