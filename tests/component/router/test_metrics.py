"""What a scrape gets: everything that is documented and nothing else, within bounds."""

import asyncio
import json
import re
import subprocess
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dev import promtool
from ollama_fleet.api.keys import clients_in
from ollama_fleet.router.accounting import KEPT_SECONDS
from tests.component.router.conftest import Running, Serve, Start
from tests.component.router.peers import (
    LAST_CHUNK,
    STREAM_HEAD,
    Client,
    Exchange,
    chat,
    chunk,
    eventually,
    get,
    say,
)

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/metrics.md").read_text()
DOCUMENTED = [
    found
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)
    if section.startswith(("Of a router", "Of every process"))
    for found in re.findall(r"^\| `(\w+)` +\| (\w+) ", section, re.MULTILINE)
]
USAGE = b'{"done":true,"prompt_eval_count":26,"eval_count":290}\n'


async def scrape(router: Running) -> str:
    return (await get(router.operators_port, "/metrics")).body.decode()


async def streamed(exchange: Exchange) -> None:
    await exchange.send(STREAM_HEAD + chunk(b"one") + chunk(USAGE) + LAST_CHUNK)


async def everything(start: Start, serve: Serve) -> str:
    """A scrape of a router to which everything that is counted has happened."""
    slow = await serve(streamed)
    broken = await serve(say(b"{}", "503 Service Unavailable"), resident=["m:latest"])
    failing = await serve(say(b"{}", "500 Internal Server Error"), models=["f:latest"])
    router = await start(slow, broken, failing, accessLog=True)
    settings = router.router.settings
    router.router.configure(replace(settings, keys_secret="keys", anonymous=True))
    key = f'{{"sha256": "{sha256(b"one").hexdigest()}"}}'
    router.router.gate.take(clients_in({"team-a": key}, json.loads))
    with_key = "Authorization: Bearer one\r\n"
    assert (await chat(router.port, more=with_key)).status == 200
    assert (await chat(router.port, b'{"model":"f"}')).status == 500
    assert (await chat(router.port, b'{"model":"nope"}')).status == 404
    waiting = asyncio.Event()

    async def never(exchange: Exchange) -> None:
        waiting.set()
        await exchange.left()

    slow.answer = broken.answer = never
    leaver = await Client.connect(router.port)
    leaver.ask()
    await waiting.wait()
    leaver.leave()
    await eventually(lambda: router.in_flight == 0)
    go = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await go.wait()
        await say(b"{}", "500 Internal Server Error")(exchange)

    failing.answer = held
    lines = router.router.relay.admission.lines
    before = len(failing.exchanges)
    for at_server, release in ((2, True), (3, False)):
        for _ in range(2):  # one is at the server, the other waits for it
            (await Client.connect(router.port)).ask(b'{"model":"f"}')
        await eventually(lambda: len(lines.get("f:latest", ())))
        if release:
            go.set()
            await eventually(lambda: router.in_flight == 0)
            go.clear()
        assert len(failing.exchanges) - before == at_server
    router.router.fleet.snapshot.servers[0].load.wedged["m:latest"] = 0.0
    return await scrape(router)


async def test_what_is_served_is_documented_and_the_other_way_round(
    start: Start, serve: Serve
) -> None:
    text = await everything(start, serve)
    served = re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)
    assert sorted(served) == sorted(DOCUMENTED)


async def test_promtool_finds_nothing_to_say(start: Start, serve: Serve) -> None:
    found = promtool.find()
    if found is None:
        pytest.skip("no promtool: make tools")
    text = await everything(start, serve)
    done = subprocess.run(  # noqa: ASYNC221 - nothing else is to happen meanwhile
        [found, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_names_that_clients_make_up_are_no_labels(start: Start, serve: Serve) -> None:
    router = await start(await serve(models=["m:latest", "n:1b"]))
    for number in range(20):
        await chat(router.port, b'{"model":"made-up-%d"}' % number)
        await chat(router.port, b"{}", path=f"/api/made-up-{number}")
    for name in (b"m", b"M:latest", b"library/m", b"N:1B"):
        assert (await chat(router.port, b'{"model":"%s"}' % name)).status == 200
    text = await scrape(router)
    assert "made-up" not in text
    models = {
        sample.labels["gen_ai_request_model"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "gen_ai_request_model" in sample.labels
    }
    assert models == {"m:latest", "n:1b"}


async def test_a_models_servers_are_told_by_what_they_can_do(start: Start, serve: Serve) -> None:
    one = await serve(models=["m:latest", "n:latest"], resident=["m:latest"])
    router = await start(one, await serve(say(b"{}", "500 Internal Server Error")))

    async def told(model: str) -> dict[str, int]:
        found = re.findall(
            rf'model_servers{{model="{model}",state="(\w+)"}} (\d)', await scrape(router)
        )
        return {state: int(count) for state, count in found}

    assert await told("n:latest") == {"Installed": 1, "Available": 1, "Resident": 0}
    assert await told("m:latest") == {"Installed": 2, "Available": 2, "Resident": 1}
    first, second = router.router.fleet.snapshot.servers
    first.load.wedged["m:latest"] = 0.0
    assert (await told("m:latest"))["Available"] == 1
    for _ in range(3):
        second.load.fault("m:latest").failed(asyncio.get_running_loop().time())
    assert await told("m:latest") == {"Installed": 2, "Available": 0, "Resident": 1}
    assert (await told("n:latest"))["Available"] == 1


async def test_a_server_that_left_is_told_for_a_while(start: Start, serve: Serve) -> None:
    old, new = await serve(), await serve(models=["n:latest"])
    router = await start(old, new)
    assert (await chat(router.port)).status == 200
    (endpoint,) = (one for one in router.router.settings.backends if one.name == new.name)
    router.router.fleet.want([endpoint])
    counts = f'ollama_fleet_router_requests_total{{path="/api/chat",server="{old.name}"'
    assert counts in await scrape(router)
    assert f'ollama_fleet_router_breaker_state{{server="{old.name}"}}' not in await scrape(router)
    router.router.accounting.servers[old.name].wanted_at -= KEPT_SECONDS + 1
    text = await scrape(router)
    assert old.name not in text
    assert new.name in text
