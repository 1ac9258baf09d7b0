"""Faults on demand."""

from __future__ import annotations

import json
import time

import httpx2
import pytest

from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import OllamaResponseError, Unreachable
from tests.component.ollama.emulating import HELLO, Start, chat, fault
from tests.component.ollama.waiting import until


async def test_faults_strike_by_path_and_model(start: Start) -> None:
    client = start()
    await fault(client, kind="busy", path="/api/chat", model="llama3.2:1b", count=1)
    assert (await chat(client, "llama3.2:3b")).status_code == 200
    busy = await chat(client, "llama3.2:1b")
    assert busy.status_code == 503
    assert busy.json() == {
        "error": "server busy, please try again.  maximum pending requests exceeded"
    }
    assert (await chat(client, "llama3.2:1b")).status_code == 200
    number = await fault(client, kind="error", status=500, message="llama runner has gone")
    with pytest.raises(OllamaResponseError, match="llama runner has gone"):
        await client.tags()
    async with httpx2.AsyncClient(verify=False, trust_env=False, base_url=client.base_url) as http:
        listed = (await http.get("/_emulator/faults")).json()["faults"]
        assert [item["kind"] for item in listed] == ["error"]
        await http.delete(f"/_emulator/faults/{number}")
        bad = await http.post("/_emulator/faults", json={"kind": "flood"})
        assert bad.status_code == 400
        assert "no fault 'flood'" in bad.json()["error"]
    assert await client.tags()


async def test_a_slow_first_byte(start: Start) -> None:
    client = start()
    await fault(client, kind="slow_first_byte", seconds=0.5, path="/api/version", count=1)
    began = time.monotonic()
    await client.version()
    assert time.monotonic() - began >= 0.5


async def test_a_hang(start: Start) -> None:
    client = start()
    await fault(client, kind="hang", path="/api/version")
    async with OllamaClient(client.base_url, timeout=0.3) as impatient:
        with pytest.raises(Unreachable, match="did not answer in time"):
            await impatient.version()
        assert await impatient.tags()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_cut_stream(start: Start, path: str) -> None:
    client = start()
    await fault(client, kind="cut_stream", chunks=3, count=1)
    lines = []
    async with httpx2.AsyncClient(verify=False, trust_env=False, base_url=client.base_url) as http:
        body = {"model": "llama3.2:1b", "messages": HELLO, "stream": True}
        with pytest.raises(httpx2.RemoteProtocolError):
            async with http.stream("POST", path, json=body) as response:
                lines += [line async for line in response.aiter_lines() if line]
    assert len(lines) <= 3


async def test_a_stream_that_ends_without_done(start: Start) -> None:
    client = start()
    await fault(client, kind="end_stream", chunks=3, count=1)
    async with httpx2.AsyncClient(verify=False, trust_env=False, base_url=client.base_url) as http:
        response = await http.post("/api/chat", json={"model": "llama3.2:1b", "messages": HELLO})
    assert [json.loads(line)["done"] for line in response.text.splitlines()] == [False] * 3


async def test_an_error_in_a_stream(start: Start) -> None:
    client = start()
    await fault(client, kind="stream_error", chunks=2, message="out of memory", count=1)
    async with httpx2.AsyncClient(verify=False, trust_env=False, base_url=client.base_url) as http:
        response = await http.post("/api/chat", json={"model": "llama3.2:1b", "messages": HELLO})
    assert response.status_code == 200
    assert json.loads(response.text.splitlines()[-1]) == {"error": "out of memory"}


async def test_a_wedged_model(start: Start) -> None:
    client = start()
    await client.load("llama3.2:1b")
    await fault(client, kind="wedge", model="llama3.2:1b")
    async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=0.3) as http:
        body = {"model": "llama3.2:1b", "messages": HELLO}
        with pytest.raises(httpx2.ReadTimeout):
            await http.post(f"{client.base_url}/api/chat", json=body)
    for call in (client.tags(), client.ps(), client.show("llama3.2:1b")):
        assert await call
    assert (await chat(client, "llama3.2:3b")).status_code == 200


@pytest.mark.parametrize(("kind", "mended"), [("wedge", True), ("stuck", False)])
async def test_unloading_a_wedged_model(start: Start, kind: str, mended: bool) -> None:
    client = start()
    await client.load("llama3.2:1b")
    await fault(client, kind=kind, model="llama3.2:1b", count=1)
    async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=0.3) as http:
        with pytest.raises(httpx2.ReadTimeout):
            await http.post(
                f"{client.base_url}/api/generate", json={"model": "llama3.2:1b", "prompt": "hi"}
            )
    await client.unload("llama3.2:1b")
    assert bool(await client.ps()) is not mended


async def test_a_crash_at_once_and_on_request(start: Start) -> None:
    at_once, on_request = start(), start()
    await fault(at_once, kind="crash")

    async def dead() -> bool:
        try:
            await at_once.version()
        except Unreachable:
            return True
        return False

    await until(dead, "the process has exited")
    await fault(on_request, kind="crash", path="/api/chat")
    await on_request.version()
    with pytest.raises(httpx2.TransportError):
        await chat(on_request, "llama3.2:1b")
    with pytest.raises(Unreachable):
        await on_request.version()
