"""The contract of the fleet API, call by call, on the fleet of the demo."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.cluster import Cluster
from dev.ollama import process
from ollama_fleet.kube.kinds import DEPLOYMENT, MODEL_DISTRIBUTION, OLLAMA_NODE, POD
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import LARGE, OPERATOR, SMALL, Api, Fleet, Registry, ollama_node
from tests.cluster.people import People
from tests.cluster.shapes import ID, TIME, Form, differences
from tests.cluster.waiting import eventually

PODS = "app.kubernetes.io/component=console"
DEMO = Path(__file__).parents[2] / "manifests" / "samples" / "demo.yaml"

REGISTERED = {"agent_id": ID, "status": "registered"}
AGENT = {
    "id": ID,
    "machine_name": ID,
    "ip_address": re.compile(r"[0-9a-f.:]+"),
    "ollama_version": str,
    "ollama_port": int,
    "status": ("online", "offline"),
    "registered_at": TIME,
    "last_seen": TIME,
}
ONE_AGENT = AGENT | {
    "gpu_model": str,
    "gpu_memory_bytes": int,
    "gpu_count": int,
    "memory_bytes?": int,
    "memory_used_bytes?": int,
    "cpu_usage?": float,
    "memory_usage?": float,
    "active_requests?": int,
    "models_resident": list,
}
BOX = ONE_AGENT | {
    "id": "{box}",
    "machine_name": "gpu-box",
    "status": "online",
    "gpu_model": "NVIDIA RTX 4090",
    "gpu_memory_bytes": 24 * 2**30,
    "gpu_count": 1,
    "cpu_usage": 45.5,
    "memory_usage": 60.2,
}
MODEL = {
    "name": ID,
    "size_gb": float,
    "installed_at": TIME,
    "digest": re.compile("sha256:[0-9a-f]{64}"),
}
VERDICT = {"agent_id": ID, "fits?": bool, "installed?": bool, "need_bytes": int, "message": str}
STARTED = {"task_id": ID}
OFFERED = {"name": ID, "display_name": str, "size_gb": float, "description": str}
TASK = {
    "id": ID,
    "agent_id": ID,
    "model_name": ID,
    "status": ("pending", "downloading", "completed", "failed"),
    "progress": float,
    "download_speed_bps": int,
    "created_at": TIME,
    "updated_at": TIME,
    "error?": str,
}
MINE = TASK | {"id": "{task}", "agent_id": "{pod}", "model_name": LARGE}
DONE = {"status": "completed", "progress": 1.0}
MACHINE = {
    "machine_name": "gpu-box",
    "ip_address": "{ip}",
    "ollama_version": "0.17.4",
    "ollama_port": "{port}",
    "gpu_model": "NVIDIA RTX 4090",
    "gpu_memory_bytes": 24 * 2**30,
    "gpu_count": 1,
}
BARE = {name: MACHINE[name] for name in list(MACHINE)[:4]}
REGISTER = "POST /api/agents?namespace={here}"
DISTRIBUTE = "POST /api/models/distribute"
PULL = "POST /api/agents/{pod}/models/pull"
HEALTH = {"agent_id": "{box}", "cpu_usage": 45.5, "memory_usage": 60.2, "active_requests": 3}
ALL = {"model_name": SMALL, "target": "all"}
SOME = {"model_name": SMALL, "target": "specific", "agent_ids": ["{box}", "{pod}"]}
ANSWER = {"message": {"content": str}, "done": True}
CHAT = {"model": SMALL, "stream": False, "messages": [{"role": "user", "content": "Hello"}]}


def refusal(sentence: str) -> dict[str, Form]:
    """An error whose sentence holds this."""
    return {"error": re.compile(f".*{sentence}.*")}


OFFLINE = refusal("is offline, last seen")
SMALL_STORE = refusal(r"storage too small \(needs 3\d\.\d MB, free \d+\.\d MB\)")


@dataclass(frozen=True)
class Row:
    """One call and what it is answered. Words in braces stand for what is known by then; ``keep``
    are more of them, by where in the answer they are."""

    who: str
    call: str
    body: Any
    status: int
    shape: Form = None
    keep: Mapping[str, str] = field(default_factory=dict)
    until: bool = False
    """It is asked until it is answered so."""
    by: str = "console"
    """console or router: by whose URL."""


def pull(model: str) -> dict[str, str]:
    return {"model_name": model}


CONTRACT = (
    # a machine registers and reports
    Row("agent", REGISTER, MACHINE, 201, REGISTERED, {"box": "agent_id"}),
    Row("agent", REGISTER, MACHINE, 200, {"agent_id": "{box}"}),
    Row("agent", REGISTER, BARE | {"ollama_port": 1}, 201, REGISTERED),
    Row("agent", REGISTER, {}, 400, refusal("machine_name")),
    Row("viewer", REGISTER, MACHINE, 403, refusal("may not create")),
    Row("nobody", REGISTER, MACHINE, 401, refusal("Bearer TOKEN")),
    Row("agent", "POST /api/health", HEALTH, 204),
    Row("agent", "POST /api/health", HEALTH | {"agent_id": "gone"}, 404, refusal("no agent")),
    Row("agent", "POST /api/health", HEALTH | {"agent_id": "{pod}"}, 409, refusal("is a pod")),
    Row("viewer", "POST /api/health", HEALTH, 403, refusal("may not patch")),
    # what agents there are
    Row("viewer", "GET /api/agents", None, 200, [AGENT]),
    Row("nobody", "GET /api/agents", None, 401, refusal("Bearer TOKEN")),
    Row("liar", "GET /api/agents", None, 401, refusal("does not know this token")),
    Row("stranger", "GET /api/agents", None, 403, refusal("ollama-fleet-viewer")),
    Row("viewer", "GET /api/agents/{box}", None, 200, BOX, until=True),
    Row("viewer", "GET /api/agents/{pod}", None, 200, ONE_AGENT | {"status": "online"}),
    Row("viewer", "GET /api/agents/{away}", None, 200, {"status": "offline"}, until=True),
    Row("viewer", "GET /api/agents/gone", None, 404, refusal("no agent 'gone'")),
    # a model comes to one of them, by a task
    Row("editor", PULL, pull(LARGE), 202, STARTED, {"task": "task_id"}),
    Row("viewer", "GET /api/tasks/{task}", None, 200, MINE | {"status": "downloading"}, until=True),
    Row("viewer", "GET /api/tasks/{task}", None, 200, MINE | DONE, until=True),
    Row("viewer", "GET /api/agents/{pod}/models", None, 200, [MODEL]),
    Row("viewer", "GET /api/agents/gone/models", None, 404, refusal("no agent")),
    Row("viewer", "GET /api/agents/{away}/models", None, 503, OFFLINE),
    Row("viewer", "GET /api/tasks/gone", None, 404, refusal("no task 'gone'")),
    Row("editor", PULL, pull("Invalid@Model#Name"), 400, refusal("Invalid@Model#Name")),
    Row("editor", PULL, pull("nobody-has-this:1b"), 404, refusal("correct the name or its tag")),
    Row("editor", "POST /api/agents/gone/models/pull", pull(SMALL), 404, refusal("no agent")),
    Row("editor", "POST /api/agents/{away}/models/pull", pull(SMALL), 503, OFFLINE),
    Row("editor", "POST /api/agents/{full}/models/pull", pull(LARGE), 507, SMALL_STORE),
    Row("viewer", PULL, pull(SMALL), 403, refusal("may not create")),
    # a model comes to several of them
    Row("editor", DISTRIBUTE, SOME, 202, {"task_ids": [ID]}),
    Row("editor", DISTRIBUTE, ALL, 202, {"task_ids": [ID]}),
    Row("editor", DISTRIBUTE, SOME | {"target": "none"}, 400, refusal("target")),
    Row("editor", DISTRIBUTE, SOME | {"agent_ids": []}, 400, refusal("at least")),
    Row("editor", DISTRIBUTE, SOME | {"agent_ids": ["gone"]}, 404, refusal("no agent 'gone'")),
    Row("editor", DISTRIBUTE, SOME | {"agent_ids": ["{pod}", "{away}"]}, 503, OFFLINE),
    Row("viewer", DISTRIBUTE, SOME, 403, refusal("may not create")),
    Row("viewer", "GET /api/models/available", None, 200, {"models": [OFFERED], "source": str}),
    Row("viewer", "GET /api/tasks?agent_id={pod}", None, 200, {"tasks": [TASK], "total": int}),
    Row("viewer", "GET /api/fit?model={model}", None, 200, {"verdicts": [VERDICT]}),
    # one URL for chats and for all this
    Row("nobody", "POST /api/chat", CHAT, 200, ANSWER, by="router"),
    Row("nobody", "GET /api/tags", None, 200, {"models": [{"name": ID}]}, by="router"),
    Row("agent", "POST /api/health", HEALTH, 204, by="router"),
    Row("viewer", "GET /api/agents", None, 200, [AGENT], by="router"),
    Row("viewer", "GET /api/tasks/{task}", None, 200, MINE | DONE, by="router"),
    Row("editor", PULL, pull(LARGE), 202, {"task_id": "{task}"}, by="router"),
    Row("editor", PULL, pull("Invalid@Model#Name"), 400, refusal("Invalid@Model"), by="router"),
    Row("nobody", "GET /api/agents", None, 401, refusal("Bearer TOKEN"), by="router"),
    # an agent goes; who is not known registers again
    Row("editor", "DELETE /api/agents/{pod}", None, 409, refusal("scale OllamaNode fleet instead")),
    Row("viewer", "DELETE /api/agents/{box}", None, 403, refusal("may not delete")),
    Row("editor", "DELETE /api/agents/{box}", None, 204),
    Row("viewer", "GET /api/agents/{box}", None, 404, refusal("no agent"), until=True),
    Row("agent", "POST /api/health", HEALTH, 404, refusal("no agent")),
    Row("agent", REGISTER, MACHINE, 201, {"agent_id": "{box}"}, until=True),
    Row("agent", "POST /api/health", HEALTH, 204),
)
LOGGED = (
    "GPU detected: NVIDIA RTX 4090, 24 GiB",
    "registration successful: agent {box}",
    "distribution started: {model} to agent {pod}, task {task}",
    "pull started: {model} on agent {pod}, task {task}",
    "pull completed: {model} on agent {pod}",
    "task completed: {task}",
    "failed to send pull to agent {away}: it is offline",
    "failed to send pull to agent {full}: storage too small",
)


@pytest.fixture(scope="module")
def url(operator: None, kubectl: Kubectl, api: Api) -> Iterator[str]:
    """Where the installed console answers, which the operator is told: names of Services lead
    nowhere here."""
    rolled_out = ("rollout", "status", "-n", OPERATOR, "--timeout=60s")
    kubectl(*rolled_out, f"deployment/{OPERATOR}-console")
    (pod,) = eventually("the console runs", lambda: api.all(POD, OPERATOR, PODS))
    address = f"http://{pod['status']['podIP']}:8080"
    deployment = api.get(DEPLOYMENT, OPERATOR, OPERATOR)
    assert deployment
    before = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    for arguments in ([*before, f"--console={address}"], before):
        path = "/spec/template/spec/containers/0/args"
        change = json.dumps([{"op": "replace", "path": path, "value": arguments}])
        kubectl("patch", f"deployment/{OPERATOR}", "-n", OPERATOR, "--type=json", "-p", change)
        kubectl(*rolled_out, f"deployment/{OPERATOR}")
        if arguments is not before:
            yield address


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[process.Server]:
    """An Ollama on a machine outside Kubernetes."""
    with process.server("emulator", tmp_path / "outside") as running:
        yield running


def filled(value: Any, known: Mapping[str, Any]) -> Any:
    """With the words in braces replaced; a text that is one word is the value itself."""
    if isinstance(value, dict):
        return {name: filled(child, known) for name, child in value.items()}
    if isinstance(value, list):
        return [filled(child, known) for child in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\{(\w+)\}", value)
    return known[whole[1]] if whole else value.format(**known)


def play(row: Row, people: People, urls: Mapping[str, str], known: dict[str, Any]) -> None:
    """Make a call, and compare its answer."""
    call, body, shape = (filled(part, known) for part in (row.call, row.body, row.shape))

    def wrong() -> list[str]:
        answer = people.ask(row.who, urls[row.by], call, body)
        if answer.status_code != row.status:
            return [f"{answer.status_code} {answer.text}"]
        if row.shape is None:
            return [answer.text] if answer.content else []
        found = answer.json()
        told = differences(found, shape)
        if not told:
            known.update({word: found[name] for word, name in row.keep.items()})
        return told

    about = f"{row.who}: {call} is answered {row.status}"
    last: list[str] = []

    def right() -> bool:
        last[:] = wrong()
        return not last

    try:
        eventually(about, right, within=60 if row.until else 0)
    except AssertionError:
        raise AssertionError(f"{about}; {'; '.join(last)}") from None


def test_every_call_and_refusal_of_the_contract(
    url: str,
    fleet: Fleet,
    registry: Registry,
    kubectl: Kubectl,
    outside: process.Server,
    tmp_path: Path,
) -> None:
    demo = {one["kind"]: one for one in yaml.safe_load_all(DEMO.read_text())}
    emulated = {"env": [{"name": "OLLAMA_FLEET_SERVER", "value": "emulator"}]}
    demo["OllamaNode"]["spec"]["server"] = emulated
    demo["Router"]["spec"]["fleetApi"] = True
    fleet.apply(*demo.values())
    limits = {"memory": "8Gi", "ephemeral-storage": "20M"}
    small = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": limits}
    away = {"spec": {"external": {"url": "http://127.0.0.1:1"}}}
    people = People(fleet, kubectl, tmp_path)
    fleet.ready(MODEL_DISTRIBUTION, "base")
    fleet.apply(ollama_node("full", resources=small), ollama_node("away") | away)
    fleet.ready(OLLAMA_NODE, "full")
    fleet.stalls(OLLAMA_NODE, "away", "Unreachable")
    (server,) = (one["name"] for one in fleet.servers("fleet").values() if "24g" in one["name"])
    ip, _, port = outside.url.removeprefix("http://").rpartition(":")
    known: dict[str, Any] = {
        "here": fleet.namespace,
        "model": LARGE,
        "ip": ip,
        "port": int(port),
        "pod": f"{fleet.namespace}.{server}",
        "full": f"{fleet.namespace}.full-0",
        "away": f"{fleet.namespace}.away",
    }
    urls = {"console": url, "router": fleet.url(demo["Router"]["metadata"]["name"])}
    with registry.pace(10e6):
        for row in CONTRACT:
            play(row, people, urls, known)
    # what the console shows a machine's agent, it may also ask Kubernetes itself
    own = f"--kubeconfig={tmp_path / 'agent'}"
    assert "gpu-box" in kubectl(own, "get", "ollamanodes", "-n", fleet.namespace)
    log = kubectl("logs", f"deployment/{OPERATOR}-console", "-n", OPERATOR)
    for line in LOGGED:
        assert line.format(**known) in log, line


def test_what_was_given_up_can_be_tried_again(
    url: str, fleet: Fleet, kubectl: Kubectl, tmp_path: Path
) -> None:
    fleet.apply(ollama_node("a"))
    people = People(fleet, kubectl, tmp_path)
    fleet.ready(OLLAMA_NODE, "a")
    (pod,) = fleet.pods("a")
    fleet.emulator(pod).fault("error", path="/api/pull", message="no space left on device")
    known = {"here": fleet.namespace, "pod": f"{fleet.namespace}.a-0"}
    asked = Row(
        "editor",
        PULL,
        pull(SMALL),
        202,
        STARTED,
        {"task": "task_id"},
    )
    play(asked, people, {"console": url}, known)
    (made,) = fleet.all(MODEL_DISTRIBUTION)
    backoff = {"spec": {"rollout": {"retry": {"backoff": "100ms"}}}}
    fleet.patch(MODEL_DISTRIBUTION, made["metadata"]["name"], backoff)
    failed = TASK | {"status": "failed", "error": str}
    task = "GET /api/tasks/{task}"
    play(Row("viewer", task, None, 200, failed, until=True), people, {"console": url}, known)
    fleet.emulator(pod).mend()
    play(asked, people, {"console": url}, known)
    done = TASK | {"status": "completed"}
    play(Row("viewer", task, None, 200, done, until=True), people, {"console": url}, known)


def test_the_console_is_left_in_peace(url: str, fleet: Fleet, cluster: Cluster) -> None:
    """It may do what it does, and writes nothing but reviews."""
    calls = fleet.audit.of(f"{OPERATOR}:{OPERATOR}-console")
    written = {call.resource for call in calls if call.writes}
    assert written <= {"tokenreviews", "subjectaccessreviews"}
    assert not [call for call in calls if call.code in (401, 403)]
