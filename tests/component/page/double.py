"""The page's real files over a fleet that is made up, in the shapes of the fleet API."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ollama_fleet.console import dashboard

Item = dict[str, Any]
GIB = 2**30
EDITOR, VIEWER = "editor", "viewer"
"""The tokens that are known."""


def ago(**time: float) -> str:
    """RFC 3339."""
    return (datetime.now(UTC) - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


def agent(name: str, memory: float = 24, used: float = 0, **fields: Any) -> Item:
    """A server with so many GiB."""
    return {
        "id": f"llm.{name}",
        "machine_name": name.removeprefix("fleet-"),
        "ip_address": "10.244.1.17",
        "ollama_version": "0.35.1",
        "ollama_port": 11434,
        "status": "online",
        "registered_at": ago(days=4),
        "last_seen": ago(seconds=3),
        "name": name,
        "namespace": "llm",
        "ollama_node": "fleet",
        "kind": "pod",
        "state": "Ready",
        "cordoned": False,
        "message": None,
        "gpu_model": "NVIDIA L4",
        "gpu_count": 1,
        "gpu_memory_bytes": int(memory * GIB),
        "memory_bytes": int(memory * GIB),
        "memory_used_bytes": int(used * GIB),
        "disk_bytes": 500 * GIB,
        "disk_free_bytes": 312 * GIB,
        "cpu_usage": None,
        "memory_usage": None,
        "active_requests": 0,
        "models_installed": 0,
        "models_resident": [],
        **fields,
    }


def task(model: str, server: str, state: str = "Installed", **fields: Any) -> Item:
    """A model on a server."""
    status = {
        "Installed": "completed",
        "Pulling": "downloading",
        "Failed": "failed",
        "Misfit": "failed",
    }
    return {
        "id": f"{server}-{model}".replace(":", "-"),
        "agent_id": f"llm.{server}",
        "model_name": model,
        "status": status.get(state, "pending"),
        "progress": 1.0 if state == "Installed" else 0.0,
        "download_speed_bps": 0,
        "created_at": ago(hours=2),
        "updated_at": ago(seconds=20),
        "namespace": "llm",
        "distribution": "base",
        "state": state,
        "reason": None,
        "message": None,
        "completed_bytes": None,
        "total_bytes": None,
        "digest": None,
        "drifted": False,
        "wanted_digest": None,
        **fields,
    }


def node(name: str, **fields: Any) -> Item:
    """An OllamaNode."""
    return {
        "id": f"llm.{name}",
        "namespace": "llm",
        "name": name,
        "cordoned": False,
        "ready": True,
        "stalled": False,
        "reason": "Ready",
        "message": "",
        "replicas": 1,
        "ready_replicas": 1,
        "servers_omitted": 0,
        **fields,
    }


@dataclass
class Double:
    """What is there, by kind and id; whoever follows is told of each change."""

    kept: dict[str, dict[str, Item]] = field(default_factory=dict)
    writes: list[tuple[str, str, Any]] = field(default_factory=list)
    anonymous: bool = False
    away: bool = False
    fits: dict[str, bool] = field(default_factory=dict)
    url: str = ""

    def __post_init__(self) -> None:
        self._followers: set[asyncio.Queue[bytes | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, kind: str, *items: Item) -> None:
        """Have these there, and tell of them."""
        for item in items:
            self.kept.setdefault(kind, {})[item["id"]] = item
            self._tell(kind, item)

    def drop(self, kind: str, identity: str) -> None:
        """Have it there no more."""
        del self.kept[kind][identity]
        self._tell(f"{kind}-removed", {"id": identity})

    def change(self, kind: str, identity: str, **fields: Any) -> Item:
        """Have it otherwise."""
        changed = {**self.kept[kind][identity], **fields}
        self.put(kind, changed)
        return changed

    def cut(self, away: bool = True) -> None:
        """End all connections; let nobody in while `away`."""
        self.away = away
        if self._loop:
            for queue in list(self._followers):
                self._loop.call_soon_threadsafe(queue.put_nowait, None)

    def _tell(self, name: str, data: Item) -> None:
        if self._loop:
            for queue in list(self._followers):
                self._loop.call_soon_threadsafe(queue.put_nowait, _event(name, data))

    # what is asked

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                *dashboard.routes(),
                Route("/api/{rest:path}", self._asked, methods=["GET", "POST", "PATCH", "DELETE"]),
            ]
        )

    async def _asked(self, request: Request) -> Response:
        self._loop = asyncio.get_running_loop()
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.away:
            return JSONResponse({"error": "Kubernetes cannot be asked now"}, 503)
        if token not in (EDITOR, VIEWER) and not (self.anonymous and not token):
            sentence = "Kubernetes does not know this token, or it has expired: renew it"
            return JSONResponse({"error": sentence}, 401)
        path = request.url.path
        if request.method == "GET":
            return self._read(request, path, token)
        body = json.loads(await request.body() or b"null")
        self.writes.append((request.method, path, body))
        if token != EDITOR:
            return JSONResponse({"error": f"{token} may not do that in namespace llm."}, 403)
        return self._written(path, body)

    def _read(self, request: Request, path: str, token: str) -> Response:
        if path == "/api/events":
            return StreamingResponse(self._events(), media_type="text/event-stream")
        if path == "/api/me":
            rights = dict.fromkeys(("cordon", "distribute", "change"), token == EDITOR)
            spaces = [{"namespace": "llm", **rights}]
            name = f"system:serviceaccount:llm:{token}" if token else ""
            return JSONResponse({"name": name, "anonymous": not token, "namespaces": spaces})
        if path == "/api/models/available":
            offer = {
                "name": "llama3.1:8b",
                "display_name": "Llama 3.1 8B",
                "size_gb": 4.9,
                "description": "General chat, tools.",
            }
            return JSONResponse({"models": [offer], "source": "builtin"})
        if path == "/api/fit":
            model = request.query_params["model"]
            found = [self._verdict(one, model) for one in self.kept["agent"].values()]
            told = {"model": model, "size_gb": 4.9, "source": "registry", "verdicts": found}
            return JSONResponse(told)
        if path.endswith("/models"):
            digest = "sha256:46e0c10c039e019119339687c3c1757cc81b9da49709a3b3924863ba87ca666e"
            one = {"name": "gpt-oss:20b", "size_gb": 13.8, "installed_at": ago(), "digest": digest}
            return JSONResponse([one])
        return JSONResponse({"error": "nothing here"}, 404)

    def _verdict(self, one: Item, model: str) -> Item:
        fits = self.fits.get(one["name"], True)
        has = one["memory_bytes"]
        more = "context 8192 × 2, q8_0"
        word = "needs 7.1 GiB" if fits else f"needs 7.1 GiB, has {has / GIB:.1f} GiB"
        return {
            "agent_id": one["id"],
            "machine_name": one["machine_name"],
            "fits": fits,
            "installed": False,
            "need_bytes": int(7.1 * GIB),
            "has_bytes": has,
            "estimated": False,
            "message": f"{model} {word} ({more})",
        }

    def _written(self, path: str, body: Any) -> Response:
        parts = path.split("/")
        if path == "/api/models/distribute":
            ids = body.get("agent_ids") or list(self.kept["agent"])
            made = [
                task(body["model_name"], one.partition(".")[2], "Pulling", progress=0.1)
                for one in ids
            ]
            self.put("task", *made)
            return JSONResponse({"task_ids": [one["id"] for one in made]}, 202)
        if parts[2] == "nodes":
            for one in list(self.kept["agent"].values()):
                if f"llm.{one['ollama_node']}" == parts[3]:
                    self.change("agent", one["id"], cordoned=body["cordoned"])
            return JSONResponse(self.change("node", parts[3], cordoned=body["cordoned"]))
        if parts[2] == "distributions":
            changed = self.change("distribution", parts[3], suspended=body["suspended"])
            # it may be overtaken by what it brings about
            return JSONResponse({**changed, "reason": "Outdated"})
        retried = self.change("task", parts[3], state="Waiting", status="pending", message=None)
        return JSONResponse(retried, 202)

    async def _events(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._followers.add(queue)
        try:
            for kind, items in list(self.kept.items()):
                for item in list(items.values()):
                    yield _event(kind, item)
            yield _event("synced", {})
            while (told := await queue.get()) is not None:
                yield told
        finally:
            self._followers.discard(queue)

    @contextmanager
    def served(self) -> Iterator[str]:
        """Where it answers."""
        config = uvicorn.Config(self.app(), port=0, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        socket = config.bind_socket()
        thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        try:
            yield self.url
        finally:
            self.cut()
            server.should_exit = True
            thread.join(10)


def _event(name: str, data: Item) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def fleet() -> Double:
    """A fleet with something of everything, as the guide to kubectl ollama shows it."""
    double = Double(fits={"fleet-gpu-6g": False})
    small = "needs 7.1 GiB, has 6.0 GiB (context 8192 × 2, q8_0)"
    double.put(
        "agent",
        agent("fleet-gpu-12g", 12, 0, models_installed=1, gpu_model="NVIDIA RTX 3060"),
        agent(
            "fleet-gpu-24g",
            24,
            14.2,
            active_requests=2,
            models_installed=3,
            models_resident=["gpt-oss:20b"],
        ),
        agent(
            "fleet-gpu-6g",
            6,
            0,
            state="Offline",
            status="offline",
            gpu_model="NVIDIA GTX 1660",
            message="no answer for 2m: see kubectl -n llm logs fleet-x7v2p",
        ),
    )
    spare = "0 of 3 GPU machines have 80 GiB. Lower spec.gpu.memory or add a machine."
    double.put(
        "node",
        node("fleet", replicas=3, ready_replicas=2),
        node(
            "spare",
            ready=False,
            stalled=True,
            reason="Unschedulable",
            message=spare,
            replicas=0,
            ready_replicas=0,
        ),
    )
    digest = "sha256:46e0c10c039e019119339687c3c1757cc81b9da49709a3b3924863ba87ca666e"
    older = "sha256:365c0bd3c000a25d28ddbf732fe1c6add414de7275464c4e4d1c3b5fcb5d8ad1"
    double.put(
        "task",
        task("gpt-oss:20b", "fleet-gpu-24g", digest=digest),
        task("qwen3:4b", "fleet-gpu-24g", digest=older, drifted=True, wanted_digest=digest),
        task("qwen3:4b", "fleet-gpu-12g", digest=digest),
        task(
            "llama3.1:8b",
            "fleet-gpu-12g",
            "Pulling",
            progress=0.71,
            download_speed_bps=420_000_000,
            completed_bytes=3_480_000_000,
            total_bytes=4_900_000_000,
        ),
        task("llama3.1:8b", "fleet-gpu-6g", "Misfit", reason="DoesNotFit", message=small),
        task("qwen3:4b", "fleet-gpu-6g", "Waiting", reason="ServerNotReady"),
    )
    counts = {"desired": 6, "installed": 3, "pulling": 1, "waiting": 1, "failed": 0}
    double.put(
        "distribution",
        {
            "id": "llm.base",
            "namespace": "llm",
            "name": "base",
            "models": ["gpt-oss:20b", "llama3.1:8b", "qwen3:4b"],
            "suspended": False,
            "ready": False,
            "stalled": False,
            "reason": "Reconciling",
            "message": "3 of 6 tasks are installed",
            **counts,
            "misfit": 1,
            "drifted": 1,
            "tasks_omitted": 0,
            "next_window": None,
        },
    )
    server = {"state": "Ready", "breaker": "closed", "in_flight": 1, "requests_per_second": 2.1}
    decisions = [
        {"reason": "Resident", "per_second": 1.7},
        {"reason": "Conversation", "per_second": 0.4},
    ]
    traffic = {
        "window_s": 10,
        "requests_per_second": 4.2,
        "tokens_per_second": 156.0,
        "first_token_p50_s": 0.21,
        "first_token_p99_s": 1.4,
        "in_flight": 2,
        "queued": 0,
        "rejected_per_second": 0,
        "retried_per_second": 0,
        "servers": [
            {"name": "fleet-gpu-12g", **server, "decisions": decisions},
            {"name": "fleet-gpu-24g", **server, "decisions": decisions},
            {
                "name": "fleet-gpu-6g",
                "state": "Offline",
                "breaker": "open",
                "in_flight": 0,
                "requests_per_second": 0,
                "decisions": [],
            },
        ],
    }
    double.put(
        "router",
        {
            "id": "llm.chat",
            "name": "chat",
            "namespace": "llm",
            "url": "http://chat.llm.svc:11434",
            "ready": True,
            "reason": "Ready",
            "message": "",
            "replicas": 2,
            "ready_replicas": 2,
            "servers_ready": 2,
            "servers": 3,
            "models": ["gpt-oss:20b", "qwen3:4b"],
            "traffic": traffic,
        },
    )
    double.put(
        "event",
        _told("e1", "Normal", "Ready", "2 of 2 servers are ready", "OllamaNode", "fleet", 40),
        _told("e2", "Warning", "Unschedulable", spare, "OllamaNode", "spare", 20),
        _told("e3", "Warning", "DoesNotFit", small, "ModelDistribution", "base", 5),
    )
    return double


def _told(
    identity: str, kind: str, reason: str, message: str, of: str, name: str, minutes: float
) -> Item:
    return {
        "id": identity,
        "type": kind,
        "reason": reason,
        "message": message,
        "kind": of,
        "namespace": "llm",
        "name": name,
        "count": 1,
        "last_seen": ago(minutes=minutes),
    }
