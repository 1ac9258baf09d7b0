"""Every call and refusal of the fleet API on a running fleet, its shapes field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dev.cluster import Cluster
from dev.ollama import process
from ollama_fleet.kube.kinds import DEPLOYMENT, MODEL_DISTRIBUTION, OLLAMA_NODE, POD
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import LARGE, OPERATOR, SMALL, Api, Fleet, Registry, ollama_node, router
from tests.cluster.waiting import eventually

PODS = "app.kubernetes.io/component=console"
TIME, TEXT, COUNT = "time", "text", "count"
AGENT = {
    "id": TEXT,
    "machine_name": TEXT,
    "ip_address": TEXT,
    "ollama_version": TEXT,
    "ollama_port": COUNT,
    "status": ("online", "offline"),
    "registered_at": TIME,
    "last_seen": TIME,
}
TASK = {
    "id": TEXT,
    "agent_id": TEXT,
    "model_name": TEXT,
    "status": ("pending", "downloading", "completed", "failed"),
    "progress": float,
    "download_speed_bps": COUNT,
    "created_at": TIME,
    "updated_at": TIME,
}


def shaped(found: Any, shape: dict[str, Any]) -> Any:
    """The same, once every field of the contract is there in its form."""
    for name, form in shape.items():
        value = found[name]
        if form == TIME:
            assert datetime.fromisoformat(value).tzinfo is not None, name
            assert value.endswith("Z"), name
        elif form == TEXT:
            assert isinstance(value, str), name
        elif form == COUNT:
            assert type(value) is int, name
        elif isinstance(form, tuple):
            assert value in form, name
        else:
            assert isinstance(value, form), name
    return found


def refused(answer: httpx.Response, status: int) -> str:
    """The sentence of a refusal."""
    assert answer.status_code == status, answer.text
    sentence: str = answer.json()["error"]
    assert len(sentence) > 10
    return sentence


class Person:
    """A service account of a fleet's namespace, with a role there."""

    def __init__(self, url: str, fleet: Fleet, kubectl: Kubectl, folder: Path, role: str) -> None:
        namespace = fleet.namespace
        kubectl("create", "serviceaccount", role, "-n", namespace)
        account = f"--serviceaccount={namespace}:{role}"
        given = f"--clusterrole=ollama-fleet-{role}"
        kubectl("create", "rolebinding", role, given, account, "-n", namespace)
        config = fleet.cluster.token_kubeconfig(namespace, role, folder / role)
        (user,) = yaml.safe_load(config.read_text())["users"]
        bearer = {"Authorization": f"Bearer {user['user']['token']}"}
        self.http = httpx.Client(base_url=url, headers=bearer, timeout=20, trust_env=False)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


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


def test_every_call_and_refusal_of_the_contract(
    url: str,
    fleet: Fleet,
    registry: Registry,
    kubectl: Kubectl,
    outside: process.Server,
    tmp_path: Path,
) -> None:
    fleet.apply(ollama_node("a"))
    editor = Person(url, fleet, kubectl, tmp_path, "editor")
    viewer = Person(url, fleet, kubectl, tmp_path, "viewer")
    machine = Person(url, fleet, kubectl, tmp_path, "agent")
    fleet.ready(OLLAMA_NODE, "a")

    # a machine registers
    host, _, port = outside.url.removeprefix("http://").rpartition(":")
    asked = {
        "machine_name": "gpu-box",
        "ip_address": host,
        "ollama_version": "0.17.4",
        "ollama_port": int(port),
        "gpu_model": "NVIDIA RTX 4090",
        "gpu_memory_bytes": 24 * 2**30,
        "gpu_count": 1,
    }
    into = {"namespace": fleet.namespace}
    first = machine.http.post("/api/agents", json=asked, params=into)
    assert (first.status_code, set(first.json())) == (201, {"agent_id", "status"})
    box = first.json()["agent_id"]
    assert first.json()["status"] == "registered"
    again = machine.http.post("/api/agents", json=asked, params=into)
    assert (again.status_code, again.json()["agent_id"]) == (200, box)
    health = {"agent_id": box, "cpu_usage": 45.5, "memory_usage": 60.2, "active_requests": 3}
    assert machine.http.post("/api/health", json=health).status_code == 204
    refused(machine.http.post("/api/health", json=health | {"agent_id": "gone"}), 404)

    # what the console shows it, it may also ask Kubernetes itself
    own = f"--kubeconfig={tmp_path / 'agent'}"
    assert "gpu-box" in kubectl(own, "get", "ollamanodes", "-n", fleet.namespace)

    # everybody sees it
    def listed() -> list[Any]:
        found = viewer.get("/api/agents")
        return found if [one["status"] for one in found] == ["online"] * 2 else []

    agents = {one["id"]: shaped(one, AGENT) for one in eventually("both are online", listed)}
    pod = f"{fleet.namespace}.a-0"
    assert set(agents) == {pod, box}
    fleet.ready(OLLAMA_NODE, box.partition(".")[2])
    shown = shaped(viewer.get(f"/api/agents/{box}"), AGENT)
    assert (shown["gpu_model"], shown["gpu_memory_bytes"]) == ("NVIDIA RTX 4090", 24 * 2**30)
    assert (shown["cpu_usage"], shown["memory_usage"]) == (45.5, 60.2)
    assert shown["models_resident"] == []

    # models come by tasks
    pull = editor.http.post(f"/api/agents/{pod}/models/pull", json={"model_name": LARGE})
    assert (pull.status_code, set(pull.json())) == (202, {"task_id"})
    task = pull.json()["task_id"]
    seen: set[str] = set()

    def done() -> Any:
        found = shaped(viewer.get(f"/api/tasks/{task}"), TASK)
        seen.add(found["status"])
        assert "error" not in found
        return found if found["status"] == "completed" else None

    with registry.pace(10e6):
        ended = eventually("the task ends", done)
    assert (ended["agent_id"], ended["model_name"], ended["progress"]) == (pod, LARGE, 1.0)
    assert "downloading" in seen
    (model,) = viewer.get(f"/api/agents/{pod}/models")
    assert set(model) == {"name", "size_gb", "installed_at", "digest"}
    shaped(model, {"name": TEXT, "size_gb": float, "installed_at": TIME, "digest": TEXT})
    assert model["name"] == LARGE
    assert model["digest"].removeprefix("sha256:") == registry.digest(LARGE).removeprefix("sha256:")
    body: dict[str, Any] = {"model_name": SMALL, "target": "specific", "agent_ids": [pod]}
    some = editor.http.post("/api/models/distribute", json=body)
    assert (some.status_code, len(some.json()["task_ids"])) == (202, 1)
    eventually(
        "it is there",
        lambda: viewer.get(f"/api/tasks/{some.json()['task_ids'][0]}")["status"] == "completed",
    )
    every = editor.http.post("/api/models/distribute", json={"model_name": SMALL, "target": "all"})
    assert (every.status_code, len(every.json()["task_ids"])) == (202, 2)
    page = viewer.get("/api/tasks", agent_id=pod, limit=2)
    assert (page["total"], len(page["tasks"])) == (3, 2)
    offered = viewer.get("/api/models/available")
    assert set(offered["models"][0]) == {"name", "display_name", "size_gb", "description"}
    assert isinstance(offered["source"], str)
    fits = {one["agent_id"]: one for one in viewer.get("/api/fit", model=LARGE)["verdicts"]}
    assert (fits[pod]["fits"], fits[pod]["installed"]) == (True, True)
    assert 0 < fits[pod]["need_bytes"] < fits[pod]["has_bytes"] == 8 * 2**30

    # what cannot be
    def pulled(agent: str, name: str) -> httpx.Response:
        return editor.http.post(f"/api/agents/{agent}/models/pull", json={"model_name": name})

    refused(pulled(pod, "Invalid@Model#Name"), 400)
    refused(pulled(pod, "nobody-has-this:1b"), 404)
    refused(pulled("gone", SMALL), 404)
    refused(editor.http.get("/api/tasks/gone"), 404)
    refused(editor.http.get("/api/agents/gone"), 404)
    assert "scale OllamaNode a instead" in refused(editor.http.delete(f"/api/agents/{pod}"), 409)
    refused(httpx.get(f"{url}/api/agents", trust_env=False), 401)
    for method, path, sent in (
        ("POST", f"/api/agents?namespace={fleet.namespace}", asked),
        ("POST", "/api/health", health),
        ("POST", f"/api/agents/{pod}/models/pull", {"model_name": SMALL}),
        ("POST", "/api/models/distribute", body),
        ("DELETE", f"/api/agents/{box}", None),
    ):
        refused(viewer.http.request(method, path, json=sent), 403)

    # a router hands it on, and the console still asks who it is
    fleet.apply(router("chat", fleetApi=True))
    entrance = fleet.url("chat")
    through = httpx.get(
        f"{entrance}/api/tasks/{task}", headers=viewer.http.headers, trust_env=False
    )
    assert through.json() == viewer.get(f"/api/tasks/{task}")
    refused(httpx.get(f"{entrance}/api/agents", trust_env=False), 401)
    assert httpx.get(f"{entrance}/api/tags", trust_env=False).status_code == 200

    # a server goes
    assert editor.http.delete(f"/api/agents/{box}").status_code == 204
    fleet.gone(OLLAMA_NODE, box.partition(".")[2])
    refused(editor.http.get(f"/api/agents/{box}"), 404)
    made = fleet.all(MODEL_DISTRIBUTION)
    assert len(made) == 3


def test_what_is_full_or_away_is_refused_and_what_failed_can_be_tried_again(
    url: str, fleet: Fleet, registry: Registry, kubectl: Kubectl, tmp_path: Path
) -> None:
    limits = {"memory": "8Gi", "ephemeral-storage": "20M"}
    small = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": limits}
    fleet.apply(ollama_node("full", resources=small), ollama_node("a"))
    away = {"external": {"url": "http://127.0.0.1:1"}}
    fleet.apply({**ollama_node("away"), "spec": away})
    editor = Person(url, fleet, kubectl, tmp_path, "editor")
    for name in ("full", "a"):
        fleet.ready(OLLAMA_NODE, name)
    fleet.stalls(OLLAMA_NODE, "away", "Unreachable")

    def pull(server: str, model: str) -> httpx.Response:
        path = f"/api/agents/{fleet.namespace}.{server}/models/pull"
        return editor.http.post(path, json={"model_name": model})

    eventually(
        "the console knows", lambda: {o["state"] for o in editor.get("/api/agents")} >= {"Offline"}
    )
    sentence = refused(pull("full-0", LARGE), 507)
    assert sentence.startswith("storage too small (needs 3")
    assert " MB, free 19.9 MB) on " in sentence
    assert "is offline, last seen" in refused(pull("away", SMALL), 503)
    assert fleet.all(MODEL_DISTRIBUTION) == []

    (pod,) = fleet.pods("a")
    fleet.emulator(pod).fault("error", path="/api/pull", message="no space left on device")
    task = pull("a-0", SMALL).json()["task_id"]

    def status(wanted: str) -> Any:
        found = editor.get(f"/api/tasks/{task}")
        return found if found["status"] == wanted else None

    (made,) = fleet.all(MODEL_DISTRIBUTION)
    backoff = {"spec": {"rollout": {"retry": {"backoff": "100ms"}}}}
    fleet.patch(MODEL_DISTRIBUTION, made["metadata"]["name"], backoff)
    failed = eventually("it is given up", lambda: status("failed"))
    assert failed["error"]
    fleet.emulator(pod).mend()
    assert pull("a-0", SMALL).json() == {"task_id": task}
    eventually("it is there", lambda: status("completed"))


def test_the_console_is_left_in_peace(url: str, fleet: Fleet, cluster: Cluster) -> None:
    """It may do what it does, and writes nothing but reviews."""
    calls = fleet.audit.of(f"{OPERATOR}:{OPERATOR}-console")
    written = {call.resource for call in calls if call.writes}
    assert written <= {"tokenreviews", "subjectaccessreviews"}
    assert not [call for call in calls if call.code in (401, 403)]
