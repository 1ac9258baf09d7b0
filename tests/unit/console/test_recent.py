"""The latest Events, and what of them is sent."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from ollama_fleet.console.fleet import Settings, View
from ollama_fleet.console.identity import Identity, Person
from ollama_fleet.console.recent import KEPT, Recent
from ollama_fleet.console.store import Store
from ollama_fleet.console.stream import FIRST, Stream
from ollama_fleet.console.traffic import Traffic
from ollama_fleet.kube import Kube


def event(name: str, second: int = 0, namespace: str = "llm", **more: Any) -> Any:
    minute, rest = divmod(second, 60)
    return {
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": f"2026-01-01T10:{minute:02}:{rest:02}.123456Z",
        "type": "Normal",
        "reason": "PullStarted",
        "note": "pulling",
        "regarding": {"kind": "ModelDistribution", "name": "base", "namespace": namespace},
        **more,
    }


def test_what_is_told_of_an_event() -> None:
    recent = Recent()
    recent.put(event("a.1", 5))
    ((_, kept),) = recent.seen(None).items()
    assert kept.event.model_dump() == {
        "id": "llm.a.1",
        "type": "Normal",
        "reason": "PullStarted",
        "message": "pulling",
        "kind": "ModelDistribution",
        "namespace": "llm",
        "name": "base",
        "count": 1,
        "last_seen": "2026-01-01T10:00:05Z",
    }
    recent.put(event("a.2", regarding={"kind": "Pod", "name": "a-0"}))
    assert recent.number == 1


@pytest.mark.parametrize(
    ("more", "count", "last"),
    [
        ({"series": {"count": 7, "lastObservedTime": "2026-01-01T11:00:00.5Z"}}, 7, "11:00:00"),
        (
            {
                "eventTime": None,
                "deprecatedCount": 3,
                "deprecatedLastTimestamp": "2026-01-01T12:00:00Z",
            },
            3,
            "12:00:00",
        ),
        ({"eventTime": None}, 1, "00:00:00"),
    ],
)
def test_how_often_it_happened_and_when_last(more: Any, count: int, last: str) -> None:
    recent = Recent()
    recent.put(event("a", **more))
    (kept,) = recent.seen(None).values()
    assert (kept.event.count, kept.event.last_seen[11:19]) == (count, last)


def test_the_oldest_makes_room() -> None:
    recent = Recent()
    for number in (*range(1, KEPT + 1), 0):
        recent.put(event(f"e{number}", number))
    assert len(recent.seen(None)) == KEPT
    assert "llm.e0" not in recent.seen(None)
    recent.put(event("new", KEPT + 1))
    assert next(iter(recent.seen(None))) == "llm.e2"


class Following(Stream):
    """A stream of a person who may see these namespaces."""

    def __init__(self, recent: Recent, *namespaces: str) -> None:
        store = Store()
        view = View(
            store,
            Identity(cast(Kube, None)),
            Person(),
            Settings(),
            lambda: datetime.now(UTC),
        )
        traffic = Traffic(cast(Kube, None), ())
        super().__init__(
            store,
            view,
            Settings(),
            lambda: datetime.now(UTC),
            None,
            lambda: asyncio.sleep(0),
            traffic,
            recent,
        )
        self._where: dict[str, frozenset[str] | None] = {"Event": frozenset(namespaces)}

    def told(self) -> list[tuple[str, str]]:
        found = []
        for one in self.happened(self._where):
            name, data, *_ = one.decode().splitlines()
            told = json.loads(data.removeprefix("data: "))
            found.append((name.removeprefix("event: "), told["id"]))
        return found


def test_who_connects_is_told_the_latest_and_then_what_happens() -> None:
    recent = Recent()
    for number in range(FIRST + 5):
        recent.put(event(f"e{number}", number))
    recent.put(event("hidden", namespace="other"))
    stream = Following(recent, "llm")
    assert stream.told() == [("event", f"llm.e{number}") for number in range(5, FIRST + 5)]
    assert stream.told() == []
    recent.put(event("e7", 3000, series={"count": 2, "lastObservedTime": "2026-01-01T12:00:00Z"}))
    recent.put(event("new", 2000))
    recent.drop(event("e8"))
    recent.drop(event("e1"))
    assert stream.told() == [
        ("event-removed", "llm.e8"),
        ("event", "llm.new"),
        ("event", "llm.e7"),
    ]


def test_the_first_of_all_is_told_too() -> None:
    recent = Recent()
    stream = Following(recent, "llm")
    assert stream.told() == []
    recent.put(event("a"))
    assert stream.told() == [("event", "llm.a")]


def test_who_may_see_no_events_is_told_none() -> None:
    recent = Recent()
    recent.put(event("a"))
    assert Following(recent).told() == []
