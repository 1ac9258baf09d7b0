"""What a replica takes beside others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.router.breaker import Breaker
from ollama_fleet.router.choose import choose
from ollama_fleet.router.sharing import STALE_SECONDS, Counts, Shares
from ollama_fleet.router.snapshot import Endpoint, Load, Model, Server, Snapshot, State, in_flight

M = "m:latest"


def fleet(*caps: int) -> Snapshot:
    """Servers with the model, each with a cap; every call gives loads of their own."""
    return Snapshot.of(
        Server(
            Endpoint(f"s{number}", "10.0.0.1", 1 + number, parallel=cap),
            Load(lambda: Breaker(3, 5.0, 20.0)),
            State.READY,
            installed={M: Model(M, "")},
        )
        for number, cap in enumerate(caps)
    )


def cap(server: Server) -> int:
    return server.endpoint.parallel


class Replica:
    """One replica's view of the same servers."""

    def __init__(self, name: str, *caps: int) -> None:
        self.shares = Shares(name)
        self.snapshot = fleet(*caps)
        self.waiting = 0

    @property
    def counts(self) -> Counts:
        loads = {one.endpoint.url: dict(one.load.models) for one in self.snapshot.servers}
        return Counts(loads, {M: self.waiting} if self.waiting else {})

    def hears(self, *others: "Replica", now: float = 0.0) -> None:
        for other in others:
            self.shares.told(other.shares.own, other.counts, now)
        self.shares.take_over(self.snapshot, now)

    def takes(self, turn: int = 0) -> Server | None:
        """Send one request, if it may."""
        servers = self.snapshot.servers
        server = choose(servers, M, (), 0.0, 0.5, cap=cap).server
        if server is None or not self.shares.may_take(server, M, servers, cap, turn):
            return None
        server.load.acquire(M)
        return server

    def takes_all(self, turn: int = 0) -> int:
        count = 0
        while self.takes(turn):
            count += 1
        return count

    @property
    def own(self) -> int:
        return sum(one.load.in_flight for one in self.snapshot.servers)


def test_others_fill_slots_and_are_forgotten() -> None:
    one, two = Replica("a", 3), Replica("b", 3)
    assert one.takes()
    two.hears(one)
    (server,) = two.snapshot.servers
    assert in_flight(server, M) == 1
    assert server.load.elsewhere == 1
    assert two.takes_all() == 1  # half of the two that are free
    two.hears(now=STALE_SECONDS + 0.1)
    assert in_flight(server, M) == 1
    assert two.shares.alone
    two.hears(one, now=10.0)
    two.shares.forget("a")
    two.shares.take_over(two.snapshot, 10.0)
    assert in_flight(server, M) == 1


def test_less_loaded_by_what_others_do_there() -> None:
    one, two = Replica("a", 4, 4), Replica("b", 4, 4)
    one.snapshot.servers[0].load.acquire(M)
    two.hears(one)
    for draw in (0.1, 0.9):
        chosen = choose(two.snapshot.servers, M, (), 0.0, draw, cap=cap).server
        assert chosen is two.snapshot.servers[1]


@pytest.mark.parametrize(("slots", "replicas"), [(1, 2), (4, 2), (4, 3), (8, 3), (2, 5)])
def test_bursts_at_the_same_instant(slots: int, replicas: int) -> None:
    all_of_them = [Replica(str(number), slots) for number in range(replicas)]
    for one in all_of_them:
        one.hears(*(other for other in all_of_them if other is not one))
    assert sum(one.takes_all() for one in all_of_them) <= slots + replicas - 1


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_one_replica_gets_every_slot_within_a_few_rounds(slots: int) -> None:
    one, idle = Replica("a", slots), Replica("b", slots)
    for _ in range(5):
        one.hears(idle)
        one.takes_all()
    assert one.own == slots


@pytest.mark.parametrize(
    ("slots", "shares"), [(4, (2, 2)), (3, (2, 1)), (1, (1, 0))], ids=["even", "odd", "one"]
)
def test_slots_are_split_while_both_wait(slots: int, shares: tuple[int, int]) -> None:
    one, two = Replica("a", slots), Replica("b", slots)
    one.waiting = two.waiting = 9
    for turn, (first, second) in ((0, shares), (1, shares[::-1])):
        for replica in (one, two):
            for server in replica.snapshot.servers:
                while server.load.in_flight:
                    server.load.release(M)
        for _ in range(4):
            one.hears(two)
            two.hears(one)
            one.takes_all(turn)
            two.takes_all(turn)
        assert (one.own, two.own) == (first, second)


def test_slots_of_those_who_do_not_wait_are_not_split() -> None:
    one, rival, other = (Replica(name, 6) for name in "abc")
    rival.waiting = 1
    other.snapshot.servers[0].load.acquire(M)
    other.snapshot.servers[0].load.acquire(M)
    for _ in range(4):
        one.hears(rival, other)
        one.takes_all()
    assert one.own == 2


Step = tuple[int, str]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["take", "end", "hear"])), max_size=60
    ),
    slots=st.integers(1, 6),
)
def test_a_cap_is_exceeded_by_no_more_than_is_said(steps: list[Step], slots: int) -> None:
    replicas = [Replica(str(number), slots) for number in range(3)]
    for one in replicas:
        one.hears(*(other for other in replicas if other is not one))
    for number, step in steps:
        one = replicas[number]
        if step == "take":
            one.takes()
        elif step == "end" and one.own:
            one.snapshot.servers[0].load.release(M)
        elif step == "hear":
            one.hears(*(other for other in replicas if other is not one))
        assert all(other.own <= slots for other in replicas)
    share = -(-slots // 3)
    assert sum(one.own for one in replicas) <= slots + 2 * share


def test_nothing_more_goes_above_the_cap_once_it_is_known() -> None:
    replicas = [Replica(str(number), 2) for number in range(3)]
    for one in replicas:
        one.takes()
    for one in replicas:
        one.hears(*(other for other in replicas if other is not one))
        assert one.takes() is None
