"""What is remembered of a registry's answers."""

from dataclasses import replace
from typing import Any, Self

import pytest

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import Source
from ollama_fleet.controllers import facts as module
from ollama_fleet.controllers.facts import FAILED, KNOWN, LIMITED, MISSING, RegistryFacts
from ollama_fleet.ollama.errors import ModelNotFound, RateLimited, Unauthorized, Unreachable
from ollama_fleet.ollama.gguf import GgufError, Value
from ollama_fleet.ollama.registry import (
    ADAPTER_LAYER,
    MODEL_LAYER,
    PROJECTOR_LAYER,
    Layer,
    Manifest,
)
from ollama_fleet.plan.sizing import Weights
from ollama_fleet.plan.tasks import RegistryFact
from tests.unit.controllers.conftest import FakeClock

HEX = "a" * 64
MODEL = "llama3.2:1b"
HEAD: dict[str, Value] = {
    "general.architecture": "llama",
    "llama.block_count": 16,
    "llama.context_length": 131072,
    "llama.embedding_length": 2048,
    "llama.attention.head_count": 32,
    "llama.vocab_size": 128256,
}


class FakeRegistry:
    """Gives its answers in turn, the last one again and again."""

    answers: list[Manifest | Exception] = []
    asked = 0
    heads: list[dict[str, Value] | Exception] = []
    read = 0

    def __init__(self, *_: Any) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def header(self, _: str, layer: Layer) -> dict[str, Value]:
        cls = type(self)
        cls.read += 1
        answer = cls.heads.pop(0) if len(cls.heads) > 1 else cls.heads[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def manifest(self, _: str) -> Manifest:
        cls = type(self)
        cls.asked += 1
        answer = cls.answers.pop(0) if len(cls.answers) > 1 else cls.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> type[FakeRegistry]:
    monkeypatch.setattr("ollama_fleet.controllers.facts.RegistryClient", FakeRegistry)
    monkeypatch.setattr(FakeRegistry, "asked", 0)
    layer = Layer("application/vnd.ollama.image.model", f"sha256:{HEX}", 100)
    monkeypatch.setattr(FakeRegistry, "answers", [Manifest(HEX, layer, (layer,))])
    monkeypatch.setattr(FakeRegistry, "read", 0)
    monkeypatch.setattr(FakeRegistry, "heads", [HEAD])
    return FakeRegistry


async def test_digests_are_written_as_pins_are(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    facts = await RegistryFacts(clock, timeout=1).of(Source(), [MODEL])
    assert facts[MODEL].digest == f"sha256:{HEX}"
    assert facts[MODEL].size == 200


async def test_what_plain_http_says_is_no_word_of_https(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    facts = RegistryFacts(clock, timeout=1)
    await facts.of(Source(registry="box:5000", insecure=True), [MODEL])
    registry.answers = [Unreachable("it speaks no TLS")]
    secure = Source(registry="box:5000")
    assert (await facts.of(secure, [MODEL]))[MODEL].error == "it speaks no TLS"
    assert facts.next_look(secure, [MODEL]) is not None
    kept = await facts.of(Source(registry="box:5000", insecure=True), [MODEL])
    assert kept[MODEL].digest == f"sha256:{HEX}"
    assert registry.asked == 2


async def test_layers_are_known_by_the_manifest_they_belong_to(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    config, weights = Layer("config", "sha256:c", 5), Layer("model", "sha256:w", 100)
    registry.answers = [Manifest("b" * 64, config, (weights,)), Manifest(HEX, config, ())]
    facts = RegistryFacts(clock, timeout=1)
    fact = (await facts.of(Source(), [MODEL]))[MODEL]
    assert fact.blobs == {"sha256:c": 5, "sha256:w": 100}
    await clock.advance(KNOWN + 1)
    await facts.of(Source(), [MODEL])
    # servers may still have what the name stood for before
    assert facts.layers == {
        "sha256:" + "b" * 64: {"sha256:c": 5, "sha256:w": 100},
        f"sha256:{HEX}": {"sha256:c": 5},
    }


async def test_what_is_known_is_not_asked_again(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    facts = RegistryFacts(clock, timeout=1)
    await facts.of(Source(), [MODEL])
    await clock.advance(KNOWN - 1)
    await facts.of(Source(), [MODEL])
    assert registry.asked == 1
    await clock.advance(2)
    await facts.of(Source(), [MODEL])
    assert registry.asked == 2


@pytest.mark.parametrize(
    ("error", "missing"),
    [(ModelNotFound(MODEL, "none"), True), (Unreachable("no route"), False)],
)
async def test_what_is_not_there_is_looked_for_again(
    clock: FakeClock, registry: type[FakeRegistry], error: Exception, missing: bool
) -> None:
    registry.answers.insert(0, error)
    facts = RegistryFacts(clock, timeout=1)
    fact = (await facts.of(Source(), [MODEL]))[MODEL]
    assert fact.missing is missing
    assert fact.error == (None if missing else "no route")
    wait = facts.next_look(Source(), [MODEL])
    assert wait is not None
    assert wait >= FAILED
    await clock.advance(wait + 1)
    assert (await facts.of(Source(), [MODEL]))[MODEL].digest
    assert facts.next_look(Source(), [MODEL]) is None


async def test_what_a_file_says_is_read_once_and_for_good(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    facts = RegistryFacts(clock, timeout=1)
    for _ in range(3):
        fact = (await facts.of(Source(), [MODEL, "alias:latest"]))[MODEL]
        assert fact.architecture is not None
        assert fact.weights == Weights(100)
        await clock.advance(KNOWN + 1)
    assert (registry.asked, registry.read) == (6, 1)


async def test_files_are_not_looked_into_without_need(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    fact = (await RegistryFacts(clock, timeout=1).of(Source(), [MODEL], shaped=False))[MODEL]
    assert (fact.architecture, registry.read) == (None, 0)


async def test_a_file_that_is_no_gguf_is_not_read_again(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    registry.heads.insert(0, GgufError("none"))
    facts = RegistryFacts(clock, timeout=1)
    for _ in range(2):
        assert (await facts.of(Source(), [MODEL]))[MODEL].architecture is None
        assert facts.next_look(Source(), [MODEL]) is None
        await clock.advance(KNOWN + 1)
    assert registry.read == 1


async def test_a_file_that_cannot_be_read_is_tried_again_later_and_later(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    registry.heads[:0] = [Unreachable("no route"), Unreachable("no route"), Unreachable("no")]
    facts = RegistryFacts(clock, timeout=1)
    waits = []
    for _ in range(3):
        fact = (await facts.of(Source(), [MODEL]))[MODEL]
        # its size is known all the same
        assert (fact.weights, fact.architecture) == (Weights(100), None)
        await facts.of(Source(), [MODEL])
        wait = facts.next_look(Source(), [MODEL])
        assert wait is not None
        waits.append(wait)
        await clock.advance(wait)
    assert waits == [FAILED, 2 * FAILED, 4 * FAILED]
    assert registry.read == 3
    assert (await facts.of(Source(), [MODEL]))[MODEL].architecture is not None
    assert facts.next_look(Source(), [MODEL]) is None


async def test_no_more_files_are_remembered_than_a_bound(
    clock: FakeClock, registry: type[FakeRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SHAPES", 2)
    facts = RegistryFacts(clock, timeout=1)
    for number in (1, 2, 3, 1):
        layer = Layer(MODEL_LAYER, f"sha256:{number:064x}", 100)
        registry.answers[:] = [Manifest(HEX, layer, (layer,))]
        await facts.of(Source(), [f"model:{number}"])
        await clock.advance(KNOWN + 1)
    assert registry.read == 4
    await facts.of(Source(), ["model:1"])
    assert registry.read == 4


async def test_projectors_and_adapters_weigh_too(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    config, template = (Layer("application/x", f"sha256:{one * 64}", 9) for one in "cd")
    layers = [
        Layer(kind, f"sha256:{number:064x}", 10**number)
        for number, kind in enumerate((MODEL_LAYER, PROJECTOR_LAYER, ADAPTER_LAYER), 1)
    ]
    registry.answers[:] = [Manifest(HEX, config, (*layers, template))]
    fact = (await RegistryFacts(clock, timeout=1).of(Source(), [MODEL]))[MODEL]
    assert fact.weights == Weights(10 + 1000, projector=100)
    registry.answers[:] = [Manifest(HEX, config, (template,))]
    fact = (await RegistryFacts(clock, timeout=1).of(Source(), [MODEL]))[MODEL]
    assert (fact.weights, fact.architecture) == (Weights(18), None)


async def test_what_was_said_holds_while_the_registry_is_silent(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    facts = RegistryFacts(clock, timeout=1)
    before = (await facts.of(Source(), [MODEL]))[MODEL]
    await clock.advance(KNOWN + 1)
    registry.answers[:] = [Unreachable("no route")]
    after = (await facts.of(Source(), [MODEL]))[MODEL]
    assert after == replace(before, error="no route")
    assert facts.next_look(Source(), [MODEL]) == FAILED
    registry.answers[:] = [ModelNotFound(MODEL, "none")]
    await clock.advance(FAILED + 1)
    assert (await facts.of(Source(), [MODEL]))[MODEL] == RegistryFact(missing=True)


async def test_a_comparison_asks_again_once(clock: FakeClock, registry: type[FakeRegistry]) -> None:
    facts = RegistryFacts(clock, timeout=1)
    await facts.of(Source(), [MODEL])
    await clock.advance(10)
    since = clock.now()
    for _ in range(3):
        await clock.advance(1)
        await facts.of(Source(), [MODEL], since=since)
    assert registry.asked == 2


async def test_a_comparison_asks_a_silent_registry_not_all_the_time(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    registry.answers = [Unreachable("no route")]
    facts = RegistryFacts(clock, timeout=1)
    since = clock.now()
    for _ in range(5):
        await facts.of(Source(), [MODEL], since=since)
    assert registry.asked == 1
    await clock.advance(FAILED + 1)
    await facts.of(Source(), [MODEL], since=since)
    assert registry.asked == 2


async def test_a_registry_that_wants_to_be_known(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    registry.answers.insert(0, Unauthorized("not without credentials"))
    facts = RegistryFacts(clock, timeout=1)
    fact = (await facts.of(Source(), [MODEL]))[MODEL]
    assert (fact.reason, fact.error) == (Reason.REGISTRY_UNAUTHORIZED, "not without credentials")
    assert facts.next_look(Source(), [MODEL]) == MISSING


@pytest.mark.parametrize(("said", "wait"), [(None, LIMITED), (300.0, 300.0), (0.0, 1.0)])
async def test_a_registry_that_had_too_many_requests_is_left_alone(
    clock: FakeClock, registry: type[FakeRegistry], said: float | None, wait: float
) -> None:
    registry.answers.insert(0, RateLimited("too many requests", said))
    facts = RegistryFacts(clock, timeout=1, at_once=1)
    found = await facts.of(Source(), [MODEL, "qwen3:4b"])
    assert registry.asked == 1
    assert {one.reason for one in found.values()} == {Reason.RATE_LIMITED}
    assert {one.error for one in found.values()} == {"too many requests"}
    elsewhere = "hf.co/team/model:q4"
    assert (await facts.of(Source(), [elsewhere]))[elsewhere].digest
    assert facts.next_look(Source(), [MODEL]) == wait
    await clock.advance(wait - 0.5)
    await facts.of(Source(), [MODEL, "tiny:latest"])
    assert registry.asked == 2
    await clock.advance(1)
    assert (await facts.of(Source(), [MODEL]))[MODEL].digest
