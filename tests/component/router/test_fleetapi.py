"""The fleet API by way of a router: handed on to the console, and only where that is wanted."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.component.router.peers import eventually
from tests.component.router.test_program import Program

KEYS = {"team-a": {"sha256": "0" * 64}}


class Console:
    """Stands in for the console: it tells what it was asked."""

    def __init__(self) -> None:
        path = Route("/{path:path}", self._answer, methods=["GET", "POST", "DELETE"])
        config = uvicorn.Config(
            Starlette(routes=[path]), port=0, host="127.0.0.1", log_config=None, lifespan="off"
        )
        self.server = uvicorn.Server(config)

    async def _answer(self, request: Request) -> Response:
        if request.method == "DELETE":
            return Response(status_code=204)
        if request.url.path == "/api/health":
            refused = {"error": "a token is needed here"}
            return JSONResponse(refused, 401, {"WWW-Authenticate": "Bearer"})
        told = {
            "method": request.method,
            "url": str(request.url),
            "body": (await request.body()).decode(),
            "authorization": request.headers.get("authorization"),
            "cookie": request.headers.get("cookie"),
        }
        return JSONResponse(told, 202, {"Set-Cookie": "a=b"})


@asynccontextmanager
async def console() -> AsyncIterator[str]:

    one = Console()
    serving = asyncio.create_task(one.server.serve())
    await eventually(lambda: one.server.started)
    (listening,) = one.server.servers
    yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    one.server.should_exit = True
    await serving


def _configure(path: Path, spec: dict[str, Any]) -> None:
    path.mkdir()
    (path / "router.yaml").write_text(yaml.safe_dump(spec))
    (path / "keys.yaml").write_text(yaml.safe_dump(KEYS))


@asynccontextmanager
async def router(path: Path, spec: dict[str, Any], *more: str) -> AsyncIterator[httpx2.AsyncClient]:
    _configure(path, spec)
    command = [sys.executable, "-m", "ollama_fleet.router.main", "--host=127.0.0.1", "--port=0"]
    command += ["--metrics-port=-1", "--drain-pause=0", f"--config={path}/router.yaml"]
    command += [f"--keys={path}/keys.yaml"]
    with (path / "log").open("wb") as output:
        popen = subprocess.Popen([*command, *more], stdout=output, stderr=output)  # noqa: ASYNC220
    running = Program(popen, path / "log")
    try:
        await eventually(lambda: running.url or popen.poll() is not None)
        assert popen.poll() is None, running.log
        async with httpx2.AsyncClient(base_url=running.url, trust_env=False) as client:
            yield client
    finally:
        popen.kill()
        popen.wait()


async def test_the_console_answers_for_its_paths_and_asks_itself_who_it_is(tmp_path: Path) -> None:
    bearer = {"Authorization": "Bearer a-token-of-kubernetes", "Cookie": "not=passed"}
    async with console() as url:
        arguments = f"--console={url}"
        async with router(tmp_path / "on", {"fleetApi": True}, arguments) as client:
            body = {"model_name": "x"}
            answer = await client.post("/api/models/distribute?a=b%20c", json=body, headers=bearer)
            assert answer.status_code == 202
            assert "set-cookie" not in answer.headers
            host = str(client.base_url).removeprefix("http://").rstrip("/")
            assert answer.json() == {
                "method": "POST",
                "url": f"http://{host}/api/models/distribute?a=b%20c",
                "body": json.dumps(body, separators=(",", ":")),
                "authorization": "Bearer a-token-of-kubernetes",
                "cookie": None,
            }
            gone = await client.delete("/api/agents/llm.box")
            assert (gone.status_code, gone.content) == (204, b"")
            refused = await client.post("/api/health", json={})
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.json() == {"error": "a token is needed here"}
            # everything else still asks for a key
            assert (await client.get("/api/tags")).status_code == 401
        async with router(tmp_path / "off", {}, arguments) as client:
            assert (await client.get("/api/agents")).status_code == 404
    async with router(tmp_path / "away", {"fleetApi": True}, arguments) as client:
        answer = await client.get("/api/agents")
        assert answer.status_code == 503
        assert "the console does not answer" in answer.json()["error"]
