"""Fair turns between clients who wait, whatever they ask for."""

from collections import Counter, deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ollama_fleet.router.waiting import FairQueue, Rate


def order(*items: str, costs: Callable[[str], float] = lambda _: 1.0) -> list[str]:
    """In which order items leave that come in this one; the letter names the client."""
    queue: FairQueue[str] = FairQueue()
    for item in items:
        queue.add(item, item[0])
    left: list[str] = []
    while (first := queue.first()) is not None:
        queue.took(first, first[0])
        queue.charge(first[0], 1.0, costs(first))
        left.append(first)
    assert len(queue) == 0
    return left


@pytest.mark.parametrize(
    ("come", "costs", "leave"),
    [
        ("a1 a2 a3", {}, "a1 a2 a3"),
        ("a1 a2 a3 b1", {}, "a1 b1 a2 a3"),
        ("a1 a2 b1 b2 c1", {}, "a1 b1 c1 a2 b2"),
        ("a1 a2 b1 b2 b3 b4", {"a1": 3.0}, "a1 b1 b2 b3 a2 b4"),
        ("b1 a1", {}, "b1 a1"),
    ],
)
def test_whoever_had_least_goes_first(come: str, costs: dict[str, float], leave: str) -> None:
    found = order(*come.split(), costs=lambda item: costs.get(item, 1.0))
    assert " ".join(found) == leave


def test_nobody_saves_up_while_away() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(20):
        queue.add(number, "busy")
    for _ in range(10):
        item = queue.first()
        assert item is not None
        queue.took(item, "busy")
        queue.charge("busy", 1.0, 100)
    for number in range(100, 110):
        queue.add(number, "new")
    turns = []
    for _ in range(10):
        item = queue.first()
        assert item is not None
        name = "new" if item >= 100 else "busy"
        queue.took(item, name)
        queue.charge(name, 1.0, 100)
        turns.append(name)
    assert Counter(turns) == {"busy": 5, "new": 5}


def test_what_a_client_owes_is_kept_over_a_pause() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add("a", "greedy")
    queue.took("a", "greedy")
    queue.charge("greedy", 1.0, 500)
    queue.forget()
    queue.add("b", "other")
    queue.add("c", "greedy")
    queue.add("d", "other")
    turns = []
    while (item := queue.first()) is not None:
        name = "greedy" if item == "c" else "other"
        queue.took(item, name)
        queue.charge(name, 1.0, 100)
        turns.append(item)
    assert turns == ["b", "d", "c"]


def test_a_refund_counts_at_once() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add("a", "a")
    queue.took("a", "a")
    queue.charge("a", 1.0, 100)
    queue.add("b", "b")
    queue.charge("b", 1.0, 50)
    queue.add("a", "a")
    assert queue.first() == "b"
    queue.charge("a", 1.0, -80)
    assert queue.first() == "a"


def test_clients_of_whom_nothing_is_owed_are_forgotten() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(1000):
        queue.add(number, f"client {number}")
    for number in range(1000):
        queue.remove(number, f"client {number}")
    assert queue.clients == 1000
    queue.forget()
    assert queue.clients == 0
    queue.charge("gone", 1.0, -5)
    assert queue.clients == 0


def test_many_changes_leave_no_rubbish() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.add(0, "a")
    for _ in range(10_000):
        queue.charge("a", 1.0, 1)
    assert len(queue._heap) < 50


def test_the_newest_of_the_client_with_most_makes_room() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "b1", "a2", "a3", "b2"):
        queue.add(item, item[0])
    assert queue.greediest("b") == "a3"
    queue.remove("a3", "a")
    assert queue.greediest("b") == "b2"
    assert queue.greediest("a") == "a2"


def test_positions() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1"):
        queue.add(item, item[0])
    assert queue.position("b") == 2
    queue.add("b2", "b")
    assert queue.position("b") == 4
    assert queue.position("a") == 5


@settings(deadline=None, max_examples=50)
@given(
    costs=st.lists(st.integers(1, 400), min_size=2, max_size=60),
    weights=st.sampled_from([(1.0, 1.0), (1.0, 3.0), (2.0, 5.0)]),
    slots=st.integers(1, 8),
    guess=st.integers(1, 400),
)
def test_greedy_clients_get_tokens_by_their_weight(
    costs: list[int], weights: tuple[float, float], slots: int, guess: int
) -> None:
    """However much their requests cost, and however wrong the guess while they run."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    names = dict(zip("ab", weights, strict=True))
    served = dict.fromkeys(names, 0)
    for number in range(slots + 1):
        for name, weight in names.items():
            queue.add((name, number), name, weight)
    running: deque[tuple[str, int]] = deque()
    for number in range(slots + 1, 300):
        while len(running) < slots:
            item = queue.first()
            assert item is not None
            name = item[0]
            queue.took(item, name)
            queue.charge(name, names[name], guess)
            queue.add((name, number + len(running) * 1000), name, names[name])
            running.append(item)
        name, serial = running.popleft()
        # "b" asks for ten times as much
        cost = costs[serial % len(costs)] * (10 if name == "b" else 1)
        served[name] += cost
        queue.charge(name, names[name], cost - guess)
    share = [served[name] / weight for name, weight in names.items()]
    # the bound of the paper: what may be under way at once, once for each
    bound = slots * max(max(costs) * 10, guess) * 2
    assert abs(share[0] - share[1]) <= bound


@pytest.mark.parametrize(("weight", "least", "most"), [(1.0, 0.9, 1.1), (3.0, 2.7, 3.3)])
def test_shares_over_time(weight: float, least: float, most: float) -> None:
    """One asks for long answers, the other for short ones."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    cost = {"long": 1000, "short": 50}
    weights = {"long": 1.0, "short": weight}
    served = dict.fromkeys(cost, 0)
    for number in range(20):
        for name in cost:
            queue.add((name, number), name, weights[name])
    for number in range(20, 3000):
        item = queue.first()
        assert item is not None
        name = item[0]
        queue.took(item, name)
        queue.charge(name, weights[name], cost[name])
        served[name] += cost[name]
        queue.add((name, number), name, weights[name])
    assert least <= served["short"] / served["long"] <= most


class Comings(RuleBasedStateMachine):
    """Any order of events keeps the books right and starves nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.waiting: dict[str, list[int]] = {}
        self.passed: Counter[str] = Counter()
        self.serial = 0

    @rule(name=st.sampled_from("abcd"), weight=st.sampled_from([1.0, 3.0]))
    def come(self, name: str, weight: float) -> None:
        self.serial += 1
        self.queue.add(self.serial, name, weight)
        self.waiting.setdefault(name, []).append(self.serial)

    @precondition(lambda self: bool(self.waiting))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        item = data.draw(st.sampled_from(self.waiting[name]))
        self.queue.remove(item, name)
        self._gone(name, item)

    @precondition(lambda self: bool(self.waiting))
    @rule(cost=st.integers(10, 40))
    def serve(self, cost: int) -> None:
        item = self.queue.first()
        assert item is not None
        (name,) = (name for name, items in self.waiting.items() if item in items)
        assert item == self.waiting[name][0]
        self.queue.took(item, name)
        self.queue.charge(name, 1.0, cost)
        self._gone(name, item)
        self.passed[name] = 0
        for other in self.waiting:
            if other != name:
                self.passed[other] += 1
                # each of three others at most what the least served one may be behind by
                assert self.passed[other] <= 3 * (40 * 2 / 10 + 1)

    @precondition(lambda self: bool(self.waiting))
    @rule(name=st.sampled_from("abcd"))
    def make_room(self, name: str) -> None:
        item = self.queue.greediest(name)
        (owner,) = (one for one, items in self.waiting.items() if item in items)
        assert len(self.waiting[owner]) == max(map(len, self.waiting.values()))
        assert item == self.waiting[owner][-1]

    @rule()
    def forget(self) -> None:
        self.queue.forget()

    @invariant()
    def as_many_as_came(self) -> None:
        assert len(self.queue) == sum(map(len, self.waiting.values()))
        assert (self.queue.first() is None) == (not self.waiting)

    def _gone(self, name: str, item: int) -> None:
        self.waiting[name].remove(item)
        if not self.waiting[name]:
            del self.waiting[name]
            self.passed[name] = 0


TestComings = Comings.TestCase
TestComings.settings = settings(deadline=None, max_examples=40, stateful_step_count=40)


def test_rate() -> None:
    rate = Rate(0.0)
    assert rate.per_second(5.0) == 0.0
    for second in range(1, 61):
        rate.count(second)
        rate.count(second + 0.5)
    assert rate.per_second(60.5) == pytest.approx(2.0, rel=0.05)
    assert rate.per_second(180.5) < 0.5
