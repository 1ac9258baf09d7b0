"""What /debug/state shows, and what it does not."""

import json
import re
from pathlib import Path
from typing import Any

from ollama_fleet.router.config import parse
from ollama_fleet.router.state import shown
from tests.component.router.conftest import QUICK, Running, Serve, Start
from tests.component.router.peers import Client, Exchange, chat, eventually, get, say

HEADERS = {"Authorization": "Bearer s3cret-of-the-server", "X-Team": "s3cret-team"}


DOCUMENTED = re.findall(
    r"^\| `(\w+)` ",
    (Path(__file__).parents[3] / "docs/reference/observing.md")
    .read_text()
    .partition("## Everything")[2],
    re.MULTILINE,
)


async def state(router: Running) -> dict[str, Any]:
    reply = await get(router.operators_port, "/debug/state")
    assert reply.status == 200
    assert b"s3cret" not in reply.body
    told: dict[str, Any] = json.loads(reply.body)
    return told


async def test_servers_settings_and_requests_without_secrets(start: Start, serve: Serve) -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.left()

    backend = await serve(never, resident=["m:latest"], headers=HEADERS, weight=7)
    router = await start(backend, strategy={"type": "RoundRobin"})
    client = await Client.connect(router.port)
    client.ask(b'{"model":"M","prompt":"s3cret-question"}', more="Cookie: s3cret-cookie\r\n")
    await eventually(lambda: backend.exchanges)
    told = await state(router)

    assert list(told) == DOCUMENTED
    assert (told["waitingFor"], told["leaving"], told["connections"]) == ("", False, 1)
    assert told["settings"]["strategy"] == "RoundRobin"
    assert told["settings"]["cooldown"] == 0.3
    assert told["settings"]["backends"][0]["port"] == backend.port
    (server,) = told["servers"]
    assert (server["name"], server["state"], server["weight"]) == (backend.name, "Ready", 7)
    assert server["headers"] == ["authorization", "x-team"]
    assert server["installed"] == {"m:latest": "d" * 64}
    assert (server["resident"], server["inFlight"]) == (["m:latest"], 1)
    assert server["connections"] == {"open": 1, "idle": 0}
    assert server["breaker"]["state"] == "CLOSED"
    (exchange,) = told["exchanges"]
    assert (exchange["phase"], exchange["model"]) == ("asked", "M")
    assert (exchange["server"], exchange["attempts"]) == (backend.name, 1)
    assert 0 <= exchange["ageSeconds"] < 10


async def test_breakers_and_faults_are_shown_with_their_times(start: Start, serve: Serve) -> None:
    failing = await serve(say(b"{}", "500 Internal Server Error"))
    router = await start(
        failing,
        health={
            "interval": "100ms",
            "breaker": {"failures": 1, "cooldown": "30s", "maxCooldown": "60s"},
        },
    )
    await chat(router.port)
    fault = (await state(router))["servers"][0]["faults"]["m:latest"]
    assert (fault["state"], fault["failuresInARow"]) == ("OPEN", 1)
    assert 20 < fault["openSeconds"] <= 30
    assert fault["nextCooldownSeconds"] == 60


async def test_only_operators_may_see_it(start: Start, serve: Serve) -> None:
    router = await start(await serve())
    assert (await get(router.port, "/debug/state")).status == 404


def test_whatever_keeps_out_of_its_repr_is_not_shown() -> None:
    backend = {"url": "https://b", "headers": HEADERS}
    alias = {"name": "fast", "targets": [{"model": "m", "weight": 3}]}
    settings = shown(parse({**QUICK, "backends": [backend], "models": [alias]}))
    assert settings["backends"][0]["tls"] is True
    assert settings["aliases"]["fast:latest"]["targets"][0]["weight"] == 3
    assert "s3cret" not in json.dumps(settings)
