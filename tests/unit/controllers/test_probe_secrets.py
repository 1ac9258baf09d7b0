"""Probes by what Secrets hold, read again before each."""

from typing import Any, cast

import pytest

from ollama_fleet.api.access import Access, SecretError, SecretRefs
from ollama_fleet.api.conditions import Reason
from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.kube import KubeError, Unavailable
from ollama_fleet.ollama.errors import OllamaResponseError
from tests.unit.controllers.conftest import FakeClock

URL = "http://box"
REFS = SecretRefs(headers="box")
MISSING = SecretError(Reason.SECRET_MISSING, "Secret box does not exist.")
AWAY = Unavailable(0, "", "the API server is away")


class Box:
    """A server that knows one key, and the Secrets of a namespace each."""

    def __init__(self) -> None:
        self.key = "first"
        self.secrets: dict[str, str | Exception] = {"ns": MISSING}
        self.shown: list[str | None] = []

    async def read(self, namespace: str, refs: SecretRefs) -> Access:
        assert refs == REFS
        found = self.secrets[namespace]
        if isinstance(found, Exception):
            raise found
        return Access((("key", found),))

    def client(self, url: str, access: Access | None, *_: Any) -> "Client":
        return Client(self, dict(access.headers).get("key") if access else None)

    def key_for(self, probes: Probes, group: str) -> str | None:
        """What a client of somebody else's shows."""
        return cast(Client, probes.client(group, URL)).key


class Client:
    def __init__(self, box: Box, key: str | None) -> None:
        self._box = box
        self.key = key

    async def version(self) -> str:
        return "1"

    async def tags(self) -> list[Any]:
        self._box.shown.append(self.key)
        if self.key != self._box.key:
            raise OllamaResponseError(401, f"not known: {self.key}")
        return []

    async def ps(self) -> list[Any]:
        return []

    async def close(self) -> None:
        pass


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Box:
    box = Box()
    monkeypatch.setattr("ollama_fleet.controllers.probes.OllamaClient", box.client)
    return box


@pytest.fixture
def probes(box: Box, clock: FakeClock) -> Probes:
    return Probes(Background(), clock, lambda: 0.5, 1.0, box.read)


async def test_a_secret_is_needed_first_and_followed_as_it_changes(
    box: Box, probes: Probes, clock: FakeClock
) -> None:
    news: list[float] = []
    probes.follow("ns/box", [URL], REFS, lambda models: news.append(clock.time))
    await clock.advance(11)
    seen = probes.seen("ns/box")[URL]
    assert seen.secret is not None
    assert seen.secret.reason == Reason.SECRET_MISSING
    assert box.shown == []
    assert news == [0, 5, 10]

    box.secrets["ns"] = "first"
    await clock.advance(5)
    seen = probes.seen("ns/box")[URL]
    assert (seen.version, seen.secret, seen.error) == ("1", None, None)
    assert box.key_for(probes, "ns/box") == "first"

    box.key = "second-key"
    await clock.advance(30)
    assert probes.seen("ns/box")[URL].denied
    box.secrets["ns"] = "second-key"
    await clock.advance(5)
    seen = probes.seen("ns/box")[URL]
    assert (seen.denied, seen.error) == (False, None)
    assert box.key_for(probes, "ns/box") == "second-key"


@pytest.mark.parametrize("away", [AWAY, KubeError(500, "", "it fails")])
async def test_while_the_api_server_is_away_the_last_words_of_a_secret_count(
    box: Box, probes: Probes, clock: FakeClock, away: KubeError
) -> None:
    box.secrets["ns"] = away
    probes.follow("ns/box", [URL], REFS, lambda models: None)
    await clock.advance(0)
    seen = probes.seen("ns/box")[URL]
    assert "cannot be read" in (seen.error or "")
    assert seen.secret is None
    assert box.shown == []
    box.secrets["ns"] = "first"
    await clock.advance(5)
    box.secrets["ns"] = away
    await clock.advance(60)
    assert set(box.shown) == {"first"}
    assert len(box.shown) >= 3
    assert probes.seen("ns/box")[URL].error is None


async def test_another_ollamanode_at_the_same_address_is_not_let_in(
    box: Box, probes: Probes, clock: FakeClock
) -> None:
    box.secrets["ns"] = "first"
    probes.follow("ns/box", [URL], REFS, lambda models: None)
    probes.follow("other/box", [URL], SecretRefs(), lambda models: None)
    await clock.advance(0)
    assert probes.seen("ns/box")[URL].version == "1"
    assert probes.seen("other/box")[URL].version is None
    assert box.key_for(probes, "other/box") is None
    probes.forget("ns/box")
    assert not probes.follows("ns/box", URL)
    assert probes.follows("other/box", URL)


async def test_a_changed_reference_is_followed_at_once(
    box: Box, probes: Probes, clock: FakeClock
) -> None:
    probes.follow("ns/box", [URL], SecretRefs(), lambda models: None)
    await clock.advance(0)
    assert box.shown == [None]
    box.secrets["ns"] = "first"
    probes.follow("ns/box", [URL], REFS, lambda models: None)
    await clock.advance(0)
    assert box.shown == [None, "first"]
