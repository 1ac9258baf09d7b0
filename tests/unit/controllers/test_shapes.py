"""What is remembered of what servers say of their models."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Self

import pytest

from ollama_fleet.controllers import shapes as module
from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.shapes import FIRST_PAUSE, LAST_PAUSE, Shapes
from ollama_fleet.ollama.errors import ModelNotFound, OllamaError, Unreachable
from ollama_fleet.ollama.wire import InstalledModel, ModelDetail
from ollama_fleet.plan.architecture import Architecture
from ollama_fleet.plan.shapes import Holder
from ollama_fleet.plan.sizing import Shape, Weights
from ollama_fleet.plan.tasks import RegistryFact
from tests.unit.controllers.conftest import FakeClock, settle

MODEL = "llama3.2:1b"
DIGEST = "sha256:" + "a" * 64
LLAMA = Architecture("llama", 16 * 8 * 128, 0, 0, 32, 2048, 128256, 131072)
FULL = {
    "general.architecture": "llama",
    "llama.block_count": 16,
    "llama.context_length": 131072,
    "llama.embedding_length": 2048,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "tokenizer.ggml.tokens": None,
}
ROWS = [{"name": "token_embd.weight", "shape": [2048, 128256]}]
DETAIL = {"model_info": FULL, "tensors": ROWS}
HELD = {DIGEST: [Holder("a", "http://a-0", MODEL), Holder("a", "http://a-1", MODEL)]}


class FakeServers:
    """Servers that describe their model, or fail to, and the way to each."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.detail: dict[str, Any] = DETAIL
        self.digest = DIGEST
        self.fault: OllamaError | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def client(self, group: str, url: str) -> Self:
        assert group == "ns/a"
        self.asked.append(url)
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def show(self, model: str) -> ModelDetail:
        assert model == MODEL
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return ModelDetail.model_validate(self.detail)

    async def tags(self) -> list[InstalledModel]:
        return [InstalledModel(name=MODEL, digest=self.digest.removeprefix("sha256:"), size=1)]


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


@pytest.fixture
def changes() -> list[float]:
    return []


@pytest.fixture
async def shapes(
    servers: FakeServers, clock: FakeClock, changes: list[float]
) -> AsyncIterator[Shapes]:
    background = Background()
    probes: Any = servers
    yield Shapes(background, probes, clock, lambda: changes.append(clock.time))
    await background.stop()


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        ({}, Shape(LLAMA)),
        # its projector is a file of its own
        ({"projector_info": {"general.architecture": "clip"}}, Shape(replace(LLAMA, sees=True))),
        ({"tensors": []}, Shape()),
        ({"model_info": {**FULL, "llama.attention.head_count_kv": None}}, Shape()),
        ({"model_info": {}}, Shape()),
    ],
)
async def test_each_is_asked_once_and_for_good(
    clock: FakeClock,
    servers: FakeServers,
    shapes: Shapes,
    changes: list[float],
    change: dict[str, Any],
    shape: Shape,
) -> None:
    servers.detail = {**DETAIL, **change}
    for _ in range(3):
        assert await shapes.ask("ns", HELD) is None
        assert shapes.known == {DIGEST: shape}
        await clock.advance(LAST_PAUSE + 1)
    assert (servers.asked, changes) == (["http://a-0"], [0])


async def test_what_the_registry_says_is_not_asked_for(
    servers: FakeServers, shapes: Shapes
) -> None:
    told = RegistryFact(DIGEST, 100, weights=Weights(90), architecture=LLAMA)
    shapes.learn([told, RegistryFact(missing=True), RegistryFact(error="no route")])
    assert await shapes.ask("ns", HELD) is None
    assert servers.asked == []
    assert shapes.known == {DIGEST: Shape(LLAMA, Weights(90))}


async def test_the_first_to_describe_it_is_believed(servers: FakeServers, shapes: Shapes) -> None:
    told = RegistryFact(DIGEST, 100, weights=Weights(90), architecture=replace(LLAMA, row=1))
    shapes.learn([replace(told, architecture=None)])
    assert shapes.known == {}
    await shapes.ask("ns", HELD)
    shapes.learn([told])
    assert shapes.known == {DIGEST: Shape(LLAMA)}


async def test_what_servers_do_not_say_a_registry_still_may(
    servers: FakeServers, shapes: Shapes
) -> None:
    servers.fault = Unreachable("no route")
    await shapes.ask("ns", HELD)
    shapes.learn([RegistryFact(DIGEST, 100, weights=Weights(90), architecture=LLAMA)])
    assert shapes.known == {DIGEST: Shape(LLAMA, Weights(90))}
    assert await shapes.ask("ns", HELD) is None


@pytest.mark.parametrize("fault", [Unreachable("no route"), ModelNotFound(MODEL, "not found")])
async def test_who_does_not_answer_is_asked_later_and_later_and_others_in_turn(
    clock: FakeClock, servers: FakeServers, shapes: Shapes, fault: OllamaError
) -> None:
    servers.fault = fault
    waits = []
    for _ in range(4):
        await shapes.ask("ns", HELD)
        await settle()
        assert shapes.known == {DIGEST: Shape()}
        wait = await shapes.ask("ns", HELD)
        assert wait is not None
        waits.append(wait)
        await clock.advance(wait)
    assert waits == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert servers.asked == ["http://a-0", "http://a-1"] * 2
    servers.fault = None
    await shapes.ask("ns", HELD)
    await settle()
    assert shapes.known == {DIGEST: Shape(LLAMA)}


async def test_who_answers_slowly_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, servers: FakeServers, shapes: Shapes, changes: list[float]
) -> None:
    monkeypatch.setattr(module, "WAIT", 0.0)
    servers.gate.clear()
    for _ in range(3):
        assert await shapes.ask("ns", HELD) is None
        assert shapes.known == {}
    assert (servers.asked, changes) == (["http://a-0"], [])
    servers.gate.set()
    await settle()
    assert shapes.known == {DIGEST: Shape(LLAMA)}
    assert changes == [0]


async def test_a_model_that_has_changed_meanwhile_describes_another(
    servers: FakeServers, shapes: Shapes
) -> None:
    servers.digest = "sha256:" + "b" * 64
    await shapes.ask("ns", HELD)
    assert shapes.known == {DIGEST: Shape()}
    assert await shapes.ask("ns", HELD) == FIRST_PAUSE


async def test_no_more_is_remembered_than_a_bound(
    monkeypatch: pytest.MonkeyPatch, servers: FakeServers, shapes: Shapes
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    for number in (1, 2, 3):
        servers.digest = f"sha256:{number:064x}"
        await shapes.ask("ns", {servers.digest: HELD[DIGEST]})
    assert [digest[-1] for digest in shapes.known] == ["2", "3"]
