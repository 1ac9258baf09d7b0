"""The operator's limit on pulls at once."""

from collections import Counter
from itertools import count
from random import Random
from typing import cast

import pytest

from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.turns import TURN, Turns
from tests.unit.controllers.conftest import FakeClock


class Owner:
    """A distribution that wants so many pulls, and counts how often it is called."""

    def __init__(self, turns: Turns, name: str, running: Counter[str]) -> None:
        self._turns, self._running = turns, running
        self.name, self.called = name, 0

    def call(self) -> None:
        self.called += 1

    def ask(self, more: int) -> int:
        given = self._turns.places(self.name, self._running, more, self.call)
        self._running[self.name] += given
        return given


class Later:
    """A clock by which every turn is over."""

    def __init__(self) -> None:
        self._ticks = count(step=TURN)

    def monotonic(self) -> float:
        return next(self._ticks)


def owners(
    limit: int, *names: str, clock: Clock | None = None
) -> tuple[Turns, Counter[str], list[Owner]]:
    turns, running = Turns(lambda: limit, clock or cast(Clock, Later())), Counter[str]()
    return turns, running, [Owner(turns, name, running) for name in names]


def test_one_alone_has_all() -> None:
    _, _, (a,) = owners(4, "a")
    assert a.ask(6) == 4
    assert a.ask(2) == 0


def test_who_comes_later_gets_what_comes_free() -> None:
    turns, running, (a, b) = owners(4, "a", "b")
    assert a.ask(9) == 4
    assert b.ask(9) == 0
    for _ in range(2):
        running["a"] -= 1
        turns.wake(running)
        assert (a.ask(6), b.ask(9)) == (0, 1)
    # an equal part each: from now on each has its own place again
    running["a"] -= 1
    turns.wake(running)
    assert (a.ask(6), b.ask(7)) == (1, 0)


def test_who_waits_is_called_when_there_is_room_and_nobody_else() -> None:
    turns, running, (a, b) = owners(2, "a", "b")
    a.ask(2)
    b.ask(1)
    running["a"] -= 1
    turns.wake(running)
    assert (a.called, b.called) == (0, 1)
    b.ask(1)
    turns.wake(running)
    assert b.called == 1


def test_as_many_are_called_as_there_are_places() -> None:
    """Each that is called plans anew, so a place for one must not cost a plan of everybody's."""
    names = [f"o{number:02}" for number in range(50)]
    turns, running, all_owners = owners(4, *names)
    for one in all_owners:
        one.ask(3)
    assert running.total() == 4
    running["o00"] -= 1
    turns.wake(running)
    (called,) = (one for one in all_owners if one.called)
    assert called.ask(3) == 1
    assert turns.waits(called.name)
    running["o01"] -= 2
    for one in all_owners:
        one.called = 0
    turns.wake(running)
    assert sum(one.called for one in all_owners) == 2
    for one in all_owners:
        turns.forget(one.name, running)
        assert not turns.waits(one.name)


def test_who_wants_less_leaves_its_part_to_others() -> None:
    turns, running, (a, b) = owners(2, "a", "b")
    a.ask(2)
    b.ask(5)
    running["a"] -= 1
    assert a.ask(1) == 0
    b.ask(0)
    assert a.called == 1
    assert a.ask(1) == 1
    b.ask(3)
    turns.forget("b", running)
    assert running["b"] == 0


async def test_whose_turn_is_over_when_it_asks_calls_those_whose_turn_it_is(
    clock: FakeClock,
) -> None:
    """It was called while it rested; without its word nobody would know of the free place."""
    turns, running, (a, b, c) = owners(1, "a", "b", "c", clock=clock)
    for one in (a, b, c):
        one.ask(9)
    running["a"] -= 1
    turns.wake(running)
    assert (a.called, b.called, c.called) == (1, 0, 0)
    await clock.advance(TURN)
    assert a.ask(9) == 0
    assert (a.called, b.called, c.called) == (1, 1, 0)
    assert b.ask(9) == 1
    assert (a.called, b.called, c.called) == (1, 1, 0)


def test_fewer_places_than_owners_go_round() -> None:
    turns, running, (a, b, c) = owners(1, "a", "b", "c")
    had: list[str] = []
    for one in (a, b, c):
        one.ask(10)
    for _ in range(9):
        (name,) = (name for name, count in running.items() if count)
        had.append(name)
        running[name] -= 1
        turns.wake(running)
        for one in (a, b, c):
            one.ask(10)
    assert Counter(had) == {"a": 3, "b": 3, "c": 3}


async def test_who_has_a_turn_goes_on_until_that_is_over(clock: FakeClock) -> None:
    turns, running, (a, b) = owners(1, "a", "b", clock=clock)
    assert (a.ask(9), b.ask(9)) == (1, 0)
    for _ in range(3):
        running["a"] -= 1
        turns.wake(running)
        assert (b.ask(9), a.ask(9)) == (0, 1)
    assert b.called == 0
    await clock.advance(TURN)
    running["a"] -= 1
    turns.wake(running)
    assert b.called == 1
    assert (a.ask(9), b.ask(9)) == (0, 1)


async def test_a_turn_ends_where_nothing_more_is_wanted(clock: FakeClock) -> None:
    turns, running, (a, b) = owners(1, "a", "b", clock=clock)
    a.ask(2)
    b.ask(1)
    running["a"] -= 1
    turns.wake(running)
    assert (a.called, b.called) == (1, 0)
    a.ask(0)
    assert b.called == 1
    assert b.ask(1) == 1


async def test_where_more_wait_than_there_are_places_a_few_have_several(clock: FakeClock) -> None:
    names = (f"o{number}" for number in range(9))
    turns, running, (before, *all_owners) = owners(8, "before", *names, clock=clock)
    assert before.ask(8) == 8
    assert not any(one.ask(9) for one in all_owners)
    running["before"] = 0
    assert [one.ask(9) for one in all_owners] == [2] * 4 + [0] * 5
    first = all_owners[0]
    for one in all_owners:
        one.called = 0
    running[first.name] -= 1
    turns.wake(running)
    assert [one.called for one in all_owners] == [1] + [0] * 8
    assert first.ask(8) == 1


def test_by_chance_the_limit_holds_and_nobody_starves() -> None:
    chance = Random(7)
    turns, running, all_owners = owners(3, "a", "b", "c", "d", "e")
    left = {one.name: 20 for one in all_owners}
    for _ in range(1000):
        one = chance.choice(all_owners)
        left[one.name] -= one.ask(left[one.name])
        assert sum(running.values()) <= 3
        if ended := [name for name, count in running.items() if count]:
            running[chance.choice(ended)] -= 1
            turns.wake(running)
    assert not any(left.values())


@pytest.mark.parametrize("seed", range(50))
def test_by_chance_nobody_is_left_who_asks_when_called_or_a_pull_ends(seed: int) -> None:
    """Whatever happens between the call and the question, no place stays free unasked for."""
    chance = Random(seed)
    clock = FakeClock()
    turns, running, all_owners = owners(4, *"abcdefghijkl", clock=clock)
    left = {one.name: 12 for one in all_owners}
    asking = set(all_owners)
    while asking or running.total():
        ended = [name for name, count in running.items() if count]
        if ended and (not asking or chance.random() < 0.5):
            name = chance.choice(ended)
            running[name] -= 1
            asking |= {one for one in all_owners if one.name == name}
            turns.wake(running)
        else:
            one = chance.choice(sorted(asking, key=lambda one: one.name))
            asking.discard(one)
            one.called = 0
            left[one.name] -= one.ask(min(left[one.name], 2))
        asking |= {one for one in all_owners if one.called}
        clock.time += chance.choice((0.0, 1.0, TURN))
    assert not any(left.values())
