"""What is remembered of a registry's answers."""

from typing import Any, Self

import pytest

from ollama_fleet.api.modeldistribution import Source
from ollama_fleet.controllers.facts import FAILED, KNOWN, RegistryFacts
from ollama_fleet.ollama.errors import ModelNotFound, Unreachable
from ollama_fleet.ollama.registry import Layer, Manifest
from tests.unit.controllers.conftest import FakeClock

HEX = "a" * 64
MODEL = "llama3.2:1b"


class FakeRegistry:
    """Gives its answers in turn, the last one again and again."""

    answers: list[Manifest | Exception] = []
    asked = 0

    def __init__(self, *_: Any) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

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
    return FakeRegistry


async def test_digests_are_written_as_pins_are(
    clock: FakeClock, registry: type[FakeRegistry]
) -> None:
    facts = await RegistryFacts(clock, timeout=1).of(Source(), [MODEL])
    assert facts[MODEL].digest == f"sha256:{HEX}"
    assert facts[MODEL].size == 200


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
