"""The fleet API by its program, on a real API server: what people see, do and are refused."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dev.cluster import Cluster
from dev.ollama import process
from ollama_fleet.kube import Kube
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE
from tests.component.kube import consoles
from tests.component.kube.conftest import eventually, ollama_node
from tests.component.kube.consoles import bind, person, told

MODEL = "llama3.2:1b"


class Place:
    """A namespace, its people, and a console that shows it."""

    def __init__(self, kube: Kube, namespace: str, url: str, log: Path, tokens: dict[str, str]):
        self.kube = kube
        self.namespace = namespace
        self.url = url
        self.log = log
        self.tokens = tokens

    def as_(self, name: str | None) -> httpx2.AsyncClient:
        return person(self.url, self.tokens[name] if name else None)


@pytest.fixture
async def place(
    kube: Kube, cluster: Cluster, namespace: str, tmp_path: Path
) -> AsyncIterator[Place]:
    await consoles.install(kube)
    tokens = {
        name: await consoles.token(kube, cluster, namespace, name, tmp_path)
        for name in ("editor", "viewer", "agent", "stranger")
    }
    for name in ("editor", "viewer", "agent"):
        await bind(kube, f"ollama-fleet-{name}", name, namespace, namespace)
    with process.registry() as (registry, _):
        address = registry.removeprefix("http://")
        arguments = (f"--register-in={namespace}", f"--mirror={address}")
        async with consoles.console(cluster, tmp_path, *arguments) as (url, log):
            yield Place(kube, namespace, url, log, tokens)
    assert not [bearer for bearer in tokens.values() if bearer in log.read_text()]


def machine(**more: Any) -> dict[str, Any]:
    return {
        "machine_name": "gpu-box",
        "ip_address": "192.0.2.7",
        "ollama_version": "0.35.1",
        "ollama_port": 11434,
        **more,
    }


async def pod(place: Place, name: str = "a100", **status: Any) -> None:
    """An OllamaNode with one pod, as an operator tells of it."""
    made = await place.kube.apply(ollama_node(name, place.namespace, replicas=1))
    made["status"] = {
        "servers": [
            {
                "name": f"{name}-0",
                "state": "Ready",
                "address": "http://192.0.2.9:11434",
                "kubernetesNode": "gpu-24g",
                "memoryTotal": "24Gi",
                "diskTotal": "100G",
                "diskFree": "50G",
                "installed": 0,
                "registeredAt": "2026-01-02T03:04:05Z",
                "lastSeen": "2026-01-02T03:04:06Z",
                **status,
            }
        ]
    }
    await place.kube.apply_status(made)


async def test_a_machine_registers_reports_and_goes(place: Place) -> None:
    asked = machine(gpu_model="NVIDIA A100", gpu_memory_bytes=80 * 10**9, gpu_count=2)
    async with place.as_("agent") as agent:
        first = await agent.post("/api/agents", json=asked)
        assert first.status_code == 201
        identity = first.json()["agent_id"]
        assert first.json() == {"agent_id": identity, "status": "registered"}
        again = await agent.post("/api/agents", json=asked | {"ip_address": "192.0.2.8"})
        assert (again.status_code, again.json()) == (200, first.json())
        other = await agent.post("/api/agents", json=asked | {"ollama_port": 11435})
        assert other.status_code == 201
        assert other.json()["agent_id"] != identity
        health = {
            "agent_id": identity,
            "cpu_usage": 45.5,
            "memory_usage": 60.2,
            "active_requests": 3,
        }
        assert (await agent.post("/api/health", json=health)).status_code == 204
        shown = (await agent.get(f"/api/agents/{identity}")).json()
        wanted = {
            "id": identity,
            "machine_name": "gpu-box",
            "ip_address": "192.0.2.8",
            "ollama_version": "0.35.1",
            "ollama_port": 11434,
            "status": "online",
            "gpu_model": "NVIDIA A100",
            "gpu_count": 2,
            "gpu_memory_bytes": 80 * 10**9,
            "cpu_usage": 45.5,
            "memory_usage": 60.2,
            "active_requests": 3,
        }
        assert shown | wanted == shown
        missing = await agent.post("/api/health", json=health | {"agent_id": "x.y"})
        assert told(missing)[0] == 404
        refused = await agent.delete(f"/api/agents/{identity}")
        assert told(refused)[0] == 403
    node = await place.kube.get(OLLAMA_NODE, "gpu-box", place.namespace)
    assert node is not None
    assert node["spec"] == {
        "external": {"url": "http://192.0.2.8:11434"},
        "gpu": {"memory": "80000000000", "count": 2},
    }
    async with place.as_("editor") as editor:
        assert (await editor.delete(f"/api/agents/{identity}")).status_code == 204
        assert told(await editor.get(f"/api/agents/{identity}"))[0] == 404
    assert await place.kube.get(OLLAMA_NODE, "gpu-box", place.namespace) is None
    log = place.log.read_text()
    assert f"registration successful: agent {identity}" in log
    assert f"GPU detected: NVIDIA A100, 74.5 GiB (agent {identity})" in log


async def test_what_somebody_else_made_is_not_taken_over(place: Place) -> None:
    await place.kube.apply(
        ollama_node("gpu-box", place.namespace, external={"url": "http://192.0.2.1:11434"})
    )
    async with place.as_("agent") as agent:
        status, sentence = told(await agent.post("/api/agents", json=machine()))
    assert status == 409
    assert "choose another machine_name" in sentence


async def test_models_are_distributed_by_custom_resources(place: Place) -> None:
    await pod(place, "a100")
    await pod(place, "b100")
    one, two = f"{place.namespace}.a100-0", f"{place.namespace}.b100-0"
    async with place.as_("editor") as editor:
        await eventually(lambda: _count(editor, 2))
        pull = await editor.post(f"/api/agents/{one}/models/pull", json={"model_name": MODEL})
        assert pull.status_code == 202
        (task,) = [pull.json()["task_id"]]
        waiting = (await editor.get(f"/api/tasks/{task}")).json()
        assert (waiting["agent_id"], waiting["model_name"]) == (one, MODEL)
        assert (waiting["status"], waiting["progress"]) == ("pending", 0.0)
        assert "error" not in waiting
        same = await editor.post(f"/api/agents/{one}/models/pull", json={"model_name": MODEL})
        assert same.json() == pull.json()
        body = {"model_name": MODEL, "target": "specific", "agent_ids": [one, two]}
        specific = await editor.post("/api/models/distribute", json=body)
        everywhere = await editor.post(
            "/api/models/distribute", json={"model_name": MODEL, "target": "all"}
        )
        assert [len(each.json()["task_ids"]) for each in (specific, everywhere)] == [2, 2]
        page = (await editor.get("/api/tasks", params={"agent_id": two, "limit": 1})).json()
        assert (page["total"], len(page["tasks"])) == (2, 1)
        made = await place.kube.list(MODEL_DISTRIBUTION, place.namespace)
        assert len(made) == 3
        assert [each["spec"].get("target") for each in made].count(None) == 1
        # an operator tells how it went
        (mine,) = [each for each in made if each["spec"].get("target") == {"servers": ["a100-0"]}]
        mine["status"] = {
            "observedGeneration": 1,
            "tasks": [
                {
                    "id": task,
                    "server": "a100-0",
                    "model": MODEL,
                    "state": "Pulling",
                    "progress": 0.45,
                    "bytesPerSecond": 10485760,
                    "createdAt": "2026-01-02T03:04:05Z",
                    "updatedAt": "2026-01-02T03:04:06Z",
                }
            ],
        }
        await place.kube.apply_status(mine)
        running = await eventually(lambda: _task(editor, task, "downloading"))
        wanted = {
            "id": task,
            "agent_id": one,
            "model_name": MODEL,
            "status": "downloading",
            "progress": 0.45,
            "download_speed_bps": 10485760,
            "created_at": "2026-01-02T03:04:05Z",
            "updated_at": "2026-01-02T03:04:06Z",
        }
        assert running | wanted == running
        mine["status"]["tasks"][0] |= {
            "state": "Failed",
            "message": "the disk is full",
            "attempts": 3,
            "failedAt": "2026-01-02T03:04:06Z",
        }
        await place.kube.apply_status(mine)
        failed = await eventually(lambda: _task(editor, task, "failed"))
        assert failed["error"] == "the disk is full"
        # asked again, what was given up begins anew
        again = await editor.post(f"/api/agents/{one}/models/pull", json={"model_name": MODEL})
        assert again.json() == pull.json()
        assert (await editor.get(f"/api/tasks/{task}")).json()["status"] == "pending"
    log = place.log.read_text()
    for line in ("distribution started: ", "pull started: ", "failed to send pull to agent "):
        assert line in log


async def test_what_cannot_be_is_refused(place: Place) -> None:
    await pod(place, "a100")
    await pod(place, "gone", state="Offline", message="its machine is off")
    await pod(place, "full", diskFree="1M")
    agent, gone, full = (f"{place.namespace}.{name}-0" for name in ("a100", "gone", "full"))
    async with place.as_("editor") as editor:
        await eventually(lambda: _count(editor, 3))

        async def pull(identity: str, model: str) -> tuple[int, str]:
            path = f"/api/agents/{identity}/models/pull"
            return told(await editor.post(path, json={"model_name": model}))

        assert (await pull(agent, "Invalid@Model#Name"))[0] == 400
        assert (await pull(agent, "gpt-oss:120b-cloud"))[0] == 400
        assert (await pull(agent, "nobody-has-this:1b"))[0] == 404
        assert (await pull("x.y", MODEL))[0] == 404
        status, sentence = await pull(gone, MODEL)
        assert status == 503
        assert sentence.endswith("is offline, last seen 2026-01-02T03:04:06Z: its machine is off")
        status, sentence = await pull(full, MODEL)
        assert status == 507
        assert sentence.startswith("storage too small (needs 6.6 MB, free 1.0 MB)")
        assert told(await editor.get("/api/tasks/unknown"))[0] == 404
        assert told(await editor.get(f"/api/agents/{gone}/models"))[0] == 503
        status, sentence = told(await editor.delete(f"/api/agents/{agent}"))
        assert (status, sentence.partition(": ")[2]) == (409, "scale OllamaNode a100 instead")
        body: dict[str, Any] = {"model_name": MODEL, "target": "specific"}
        assert told(await editor.post("/api/models/distribute", json=body))[0] == 400
        body |= {"agent_ids": [agent, gone]}
        assert told(await editor.post("/api/models/distribute", json=body))[0] == 503
        for name in ("", "{", "[]", '{"model_name": 1}', '{"model_name": null}'):
            path = f"/api/agents/{agent}/models/pull"
            assert told(await editor.post(path, content=name))[0] == 400
        huge = await editor.post("/api/agents", content=b" " * 300_000)
        assert told(huge)[0] == 413
        assert told(await editor.put("/api/agents"))[0] == 405
        assert told(await editor.get("/nothing"))[0] == 404
    assert await place.kube.list(MODEL_DISTRIBUTION, place.namespace) == []


async def test_the_installed_and_the_offered_and_what_would_fit(
    place: Place, tmp_path: Path
) -> None:
    env = {"OLLAMA_FLEET_SERVER": "emulator"}
    with process.server("emulator", tmp_path / "ollama", env) as running:
        port = int(running.url.rpartition(":")[2])
        host = running.url.removeprefix("http://").rpartition(":")[0]
        asked = machine(ip_address=host, ollama_port=port, gpu_memory_bytes=24 * 2**30)
        async with place.as_("agent") as agent, place.as_("viewer") as viewer:
            made = (await agent.post("/api/agents", json=asked)).json()["agent_id"]
            assert (await viewer.get(f"/api/agents/{made}/models")).json() == []
    async with place.as_("viewer") as viewer:
        await pod(place, "small", memoryTotal="1Gi")
        await pod(place, "large", memoryTotal="24Gi")
        offered = (await viewer.get("/api/models/available")).json()
        assert offered["source"] == "built-in"
        assert {"name", "display_name", "size_gb", "description"} == set(offered["models"][0])
        small = f"{place.namespace}.small-0"
        await eventually(lambda: _online(viewer, f"{place.namespace}.large-0"))
        told_fits = (await viewer.get("/api/fit", params={"model": MODEL})).json()
        fits = {one["agent_id"]: one["fits"] for one in told_fits["verdicts"]}
        assert fits == {made: None, small: False, f"{place.namespace}.large-0": True}
        assert told_fits["source"] == "registry"
        assert told(await viewer.get("/api/fit"))[0] == 400
        elsewhere = {"model": "evil.example:1/a/b:c"}
        assert told(await viewer.get("/api/fit", params=elsewhere))[0] == 403


async def test_people_see_and_do_what_rbac_lets_them(place: Place) -> None:
    await pod(place, "a100")
    agent = f"{place.namespace}.a100-0"
    writes: list[tuple[str, str, Any]] = [
        ("POST", "/api/agents", machine()),
        ("DELETE", f"/api/agents/{agent}", None),
        ("POST", f"/api/agents/{agent}/models/pull", {"model_name": MODEL}),
        (
            "POST",
            "/api/models/distribute",
            {"model_name": MODEL, "target": "specific", "agent_ids": [agent]},
        ),
        ("POST", "/api/models/distribute", {"model_name": MODEL, "target": "all"}),
    ]
    reads = ["/api/agents", f"/api/agents/{agent}", "/api/tasks", f"/api/fit?model={MODEL}"]
    async with place.as_("agent") as other:
        made = (await other.post("/api/agents", json=machine(machine_name="box"))).json()
    health = {"cpu_usage": 1.0, "memory_usage": 1.0, "active_requests": 0}
    writes += [
        ("POST", "/api/health", health | {"agent_id": made["agent_id"]}),
        ("DELETE", f"/api/agents/{made['agent_id']}", None),
    ]
    async with place.as_("viewer") as viewer:
        await eventually(lambda: _count(viewer, 2))
        assert [(await viewer.get(path)).status_code for path in reads] == [200] * 4
        for method, path, body in writes:
            status, _ = told(await viewer.request(method, path, json=body))
            # pods are not for anybody to delete here
            assert status == (409 if path == f"/api/agents/{agent}" else 403), path
    async with place.as_("stranger") as stranger, place.as_(None) as nobody:
        assert [told(await stranger.get(path))[0] for path in reads[:3]] == [403] * 3
        assert [told(await nobody.get(path))[0] for path in reads] == [401] * 4
        for method, path, body in writes:
            assert told(await stranger.request(method, path, json=body))[0] == 403
            assert told(await nobody.request(method, path, json=body))[0] == 401
    async with person(place.url, "no.such.token") as liar:
        assert told(await liar.get("/api/agents"))[0] == 401
    async with place.as_("editor") as editor:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "null"},
        ):
            answer = await editor.post("/api/agents", json=machine(), headers=headers)
            assert told(answer)[0] == 403
        answer = await editor.get("/api/agents")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


async def test_who_sends_no_token_may_look_only_where_that_is_allowed(
    place: Place, cluster: Cluster, tmp_path: Path
) -> None:
    await pod(place, "a100")
    (tmp_path / "open").mkdir()
    arguments = ("--anonymous", f"--namespace={place.namespace}")
    async with (
        consoles.console(cluster, tmp_path / "open", *arguments) as (url, _),
        person(url, None) as nobody,
    ):
        assert len((await nobody.get("/api/agents")).json()) == 1
        status, sentence = told(await nobody.post("/api/agents", json=machine()))
        assert (status, "not changed" in sentence) == (401, True)


async def test_changes_are_streamed(place: Place) -> None:
    await pod(place, "a100")
    agent = f"{place.namespace}.a100-0"
    async with place.as_("viewer") as viewer, viewer.stream("GET", "/api/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = _events(stream)
        async for name, data in events:
            if name == "agent" and data["id"] == agent:
                break
        async for name, _ in events:
            if name == "synced":
                break
        await pod(place, "a100", state="Draining")
        async for name, data in events:
            if name == "agent" and data["state"] == "Draining":
                break
        await place.kube.delete(OLLAMA_NODE, "a100", place.namespace)
        async for name, data in events:
            if name == "agent-removed":
                assert data == {"id": agent}
                break


async def _events(stream: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in stream.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def _count(client: httpx2.AsyncClient, count: int) -> bool:
    found = (await client.get("/api/agents")).json()
    return isinstance(found, list) and len(found) == count


async def _online(client: httpx2.AsyncClient, agent: str) -> bool:
    return (await client.get(f"/api/agents/{agent}")).status_code == 200


async def _task(client: httpx2.AsyncClient, task: str, status: str) -> Any:
    found = (await client.get(f"/api/tasks/{task}")).json()
    return found if found["status"] == status else None
