"""Models that are deleted: told once, and never in the words of a server that may be wrong."""

from typing import Any, Self

import pytest

from ollama_fleet.controllers.context import Background
from ollama_fleet.controllers.pruning import Pruning
from ollama_fleet.ollama.errors import ModelNotFound, OllamaError, Unreachable
from ollama_fleet.plan.leftovers import Leftover
from ollama_fleet.plan.prune import Removal
from tests.unit.controllers.conftest import settle

URL = "http://a-0:11434"
MODEL = "llama3.2:1b"


class Fleet:
    """The server, the way to it, and what goes on there."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.refreshed: list[str] = []
        self.fault: OllamaError | None = None
        self.pulling: dict[str, dict[str, int]] = {}
        fleet: Any = self
        self.pruning = Pruning(Background(), fleet, fleet, fleet)

    def client(self, group: str, url: str) -> Self:
        assert (group, url) == ("ns/a", URL)
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def delete(self, name: str) -> None:
        self.deleted.append(name)
        if self.fault is not None:
            raise self.fault

    async def reports(self, _: str) -> tuple[None, ...]:
        return ()

    def arriving(self, _: str) -> dict[str, dict[str, int]]:
        return self.pulling

    async def refresh(self, group: str, url: str) -> None:
        self.refreshed.append(url)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


async def test_a_second_name_is_removed_once_at_a_time(fleet: Fleet) -> None:
    leftover = Leftover("a-0", "a", URL, f"mirror:5000/library/{MODEL}")
    fleet.pruning.tidy("ns", leftover)
    fleet.pruning.tidy("ns", leftover)
    await settle()
    assert fleet.deleted == [leftover.name]
    fleet.fault = ModelNotFound(leftover.name, "gone")
    fleet.pruning.tidy("ns", leftover)
    await settle()
    assert fleet.deleted == [leftover.name, leftover.name]


@pytest.mark.parametrize(
    ("fault", "gone"),
    [(None, True), (ModelNotFound(MODEL, "gone"), False), (Unreachable("no route"), False)],
)
async def test_what_was_deleted_is_told_and_looked_at(
    fleet: Fleet, fault: OllamaError | None, gone: bool
) -> None:
    fleet.fault = fault
    removal = Removal("a-0", "a", URL, MODEL, 1, resident=False)
    assert await fleet.pruning.carry_out("ns", [removal], lambda _: True) == [removal] * gone
    assert fleet.refreshed == [URL] * gone


async def test_nothing_is_deleted_that_is_wanted_again_or_where_a_pull_runs(fleet: Fleet) -> None:
    removal = Removal("a-0", "a", URL, MODEL, 1, resident=False)
    assert await fleet.pruning.carry_out("ns", [removal], lambda _: False) == []
    fleet.pulling = {"a-0": {}}
    assert await fleet.pruning.carry_out("ns", [removal], lambda _: True) == []
    assert fleet.deleted == []
