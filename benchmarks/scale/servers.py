"""A thousand Ollama servers in one process: models they are told to pull are there at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
import orjson

from dev.ollama.emulator.server import Connection, Exchange, listen
from ollama_fleet.api.names import ModelName

PORT = 11434
_FOREVER = "2318-01-01T00:00:00Z"


@dataclass(frozen=True)
class _Known:
    """What the registry says of a model."""

    digest: str
    size: int


class Registry:
    """The digests of models, each asked for once."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.AsyncClient(base_url=url, trust_env=False)
        self._known: dict[str, asyncio.Task[_Known]] = {}

    async def model(self, name: str) -> _Known:
        """What a model is now; httpx2.HTTPError where the registry has none."""
        if name not in self._known:
            self._known[name] = asyncio.create_task(self._ask(name))
        return await asyncio.shield(self._known[name])

    async def _ask(self, name: str) -> _Known:
        short = ModelName.parse(name)
        path = f"/v2/library/{short.model}/manifests/{short.tag}"
        answer = (await self._client.get(path)).raise_for_status()
        manifest = answer.json()
        size = sum(layer["size"] for layer in (manifest["config"], *manifest["layers"]))
        return _Known(answer.headers["Docker-Content-Digest"].removeprefix("sha256:"), size)


@dataclass
class Server:
    """One server at an address of its own."""

    registry: Registry
    address: str
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    loaded: dict[str, str] = field(default_factory=dict)
    _listener: asyncio.Server | None = None
    _connections: set[Connection] = field(default_factory=set)

    async def start(self) -> None:
        """Listen."""
        self._listener, self._connections = await listen(self._answer, self.address, PORT, 16)

    def stop(self) -> None:
        """Be gone, as by SIGKILL."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.transport.abort()

    async def _answer(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case _, "/":
                exchange.send(200, b"Ollama is running", "text/plain")
            case _, "/api/version":
                exchange.send_json(200, {"version": "0.17.4"})
            case _, "/api/tags":
                exchange.send_json(200, {"models": [*self.models.values()]})
            case _, "/api/ps":
                exchange.send_json(200, {"models": self._resident()})
            case "POST", "/api/pull":
                await self._pull(exchange)
            case "DELETE", "/api/delete":
                body = orjson.loads(exchange.body)
                self.models.pop(body.get("model") or body.get("name"), None)
                exchange.send_empty(200)
            case "POST", "/api/chat" | "/api/generate":
                self._chat(exchange)
            case _:
                exchange.send_json(404, {"error": "not found"})

    def _resident(self) -> list[dict[str, Any]]:
        return [
            {**self.models[name], "size_vram": self.models[name]["size"], "expires_at": _FOREVER}
            for name in self.loaded
            if name in self.models
        ]

    def _chat(self, exchange: Exchange) -> None:
        name = ModelName.parse(orjson.loads(exchange.body)["model"]).canonical
        if name not in self.models:
            exchange.send_json(404, {"error": f"model '{name}' not found"})
            return
        self.loaded[name] = name
        message = {"role": "assistant", "content": "yes"}
        exchange.send_json(200, {"model": name, "message": message, "response": "", "done": True})

    async def _pull(self, exchange: Exchange) -> None:
        body = orjson.loads(exchange.body)
        name = ModelName.parse(body.get("model") or body["name"]).canonical
        exchange.begin("application/x-ndjson")
        exchange.write(b'{"status":"pulling manifest"}\n')
        try:
            found = await self.registry.model(name)
        except httpx2.HTTPError as error:
            exchange.write(orjson.dumps({"error": str(error)}) + b"\n")
        else:
            self.models[name] = {
                "name": name,
                "model": name,
                "modified_at": datetime.now(UTC).isoformat(),
                "size": found.size,
                "digest": found.digest,
                "details": {},
            }
            exchange.write(b'{"status":"success"}\n')
        exchange.end()
