"""The operator's limit on pulls at once."""

from collections import Counter
from random import Random

from ollama_fleet.controllers.turns import Turns


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


def owners(limit: int, *names: str) -> tuple[Turns, Counter[str], list[Owner]]:
    turns, running = Turns(limit), Counter[str]()
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
