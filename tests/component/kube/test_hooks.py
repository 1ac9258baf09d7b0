"""The chart's hooks where something is amiss: nothing is left, and who runs helm is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ollama_fleet.hooks import trial
from ollama_fleet.hooks.main import main
from ollama_fleet.hooks.removal import remove
from ollama_fleet.hooks.trial import Trial, attempt
from ollama_fleet.hooks.waiting import HookFailed
from ollama_fleet.kube import Kube
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER
from tests.component.kube.conftest import eventually, ollama_node

GONE_WITHIN = 60.0
"""Kubernetes needs up to half a minute to know of new kinds whose objects it is to collect."""
KINDS = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)


async def test_without_an_operator_the_test_fails_and_leaves_nothing(
    kube: Kube, namespace: str
) -> None:
    with pytest.raises(HookFailed, match="the operator has not answered yet"):
        await attempt(kube, Trial(namespace, "llama3.2:1b", {"replicas": 1}, {}), 0.1)

    async def gone() -> bool:
        return not any([await kube.list(kind, namespace) for kind in KINDS])

    await eventually(gone)


async def test_fleets_go_from_the_namespaces_it_is_told(kube: Kube, namespace: str) -> None:
    await kube.create(ollama_node("a", namespace))
    await kube.create(ollama_node("b", namespace))
    await remove(kube, ("default",), GONE_WITHIN)
    assert len(await kube.list(OLLAMA_NODE, namespace)) == 2
    await remove(kube, (namespace,), GONE_WITHIN)
    assert await kube.list(OLLAMA_NODE, namespace) == []


async def test_what_holds_a_fleet_is_named(kube: Kube, namespace: str) -> None:
    held = ollama_node("held", namespace)
    held["metadata"]["finalizers"] = ["example.com/backup"]
    await kube.create(held)
    with pytest.raises(HookFailed, match=f"waiting for the end of OllamaNode {namespace}/held"):
        await remove(kube, (namespace,), 0.1)
    await kube.patch(OLLAMA_NODE, "held", namespace, {"metadata": {"finalizers": None}})
    await remove(kube, (namespace,), GONE_WITHIN)


@asynccontextmanager
async def answering(head: str, body: str) -> AsyncIterator[str]:
    """A server that gives everybody the same answer; its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        content = body.encode()
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        writer.write(content)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("head", "body", "said"),
    [
        ("503 Service Unavailable", '{"error": "no server"}', "answers 503: .*no server"),
        ("200 OK", '{"message": {"content": "The"}, "done": false}\n', "ended early, after 'The'"),
    ],
)
async def test_an_answer_that_is_none_fails(head: str, body: str, said: str) -> None:
    async with answering(head, body) as url:
        with pytest.raises(HookFailed, match=said):
            await trial.chat(url, "llama3.2:1b")


def test_a_hook_that_fails_says_why_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert main(["remove"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ollama-fleet-hook remove: ")
