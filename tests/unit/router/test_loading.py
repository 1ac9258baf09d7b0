"""When a load is better than a wait, and what either costs."""

import pytest

from ollama_fleet.router.estimates import Estimates
from ollama_fleet.router.loading import holds, places, wait_for, worth_loading
from ollama_fleet.router.snapshot import Server
from tests.unit.router.servers import M, server

X, Y = "x:latest", "y:latest"
SEEN = Estimates({M: 10.0, X: 4.0, Y: 6.0}, {M: 3.0, X: 20.0, Y: 1.0})
GIB = 2**30


@pytest.mark.parametrize(
    ("wait", "line", "load", "loading", "worth"),
    [
        (0.0, 0, 5.0, False, False),
        (4.9, 0, 5.0, False, False),
        (5.0, 0, 5.0, False, False),
        (5.1, 0, 5.0, False, True),
        (60.0, 0, 5.0, False, True),
        (60.0, 0, 90.0, False, False),
        # Nobody waits as long as the load, all together longer: 1 + 2 + 3 + 4 s.
        (3.0, 2, 7.0, False, False),
        (4.0, 3, 7.0, False, True),
        # Loading already: only by a clear margin.
        (5.1, 0, 5.0, True, False),
        (10.0, 0, 5.0, True, False),
        (10.1, 0, 5.0, True, True),
        (4.0, 3, 7.0, True, False),
        (5.0, 4, 7.0, True, True),
    ],
)
def test_worth_loading(wait: float, line: int, load: float, loading: bool, worth: bool) -> None:
    assert worth_loading(wait, line, load, loading=loading) is worth


@pytest.mark.parametrize(
    ("servers", "waiting", "seconds"),
    [
        ([server("a", resident=True)], 0, 0.0),
        ([server("a", resident=True, in_flight=1)], 0, 3.0),
        ([server("a", resident=True, in_flight=2, parallel=2)], 0, 1.5),
        ([server("a", resident=True, in_flight=4)], 0, 12.0),
        ([server("a", resident=True, in_flight=4), server("b", in_flight=1)], 0, 3.0),
        ([server("a", resident=True, in_flight=1)], 5, 18.0),
        ([server("a", in_flight=1), server("b", in_flight=3, parallel=3)], 4, 1.0 + 3.0),
        # Loading since 0, and it is 4 now: 6 s are left.
        ([server("a", loading={M: 0.0}, in_flight=1, parallel=2)], 0, 6.0),
        ([server("a", loading={M: 0.0}, in_flight=1)], 0, 9.0),
        # Overdue by 30 s: as long again.
        ([server("a", loading={M: -36.0}, in_flight=1, parallel=2)], 0, 30.0),
        # Another model's load comes first.
        ([server("a", resident=True, loading={Y: 0.0})], 0, 2.0),
    ],
)
def test_the_wait(servers: list[Server], waiting: int, seconds: float) -> None:
    assert wait_for(servers, M, waiting, 4.0, SEEN) == pytest.approx(seconds)


def spilled() -> Server:
    one = server("spilled")
    return Server(one.endpoint, one.load, one.state, "", one.installed, frozenset({M}))


def busy_with_x(**memory: tuple[int, float]) -> Server:
    one = server("busy", memory={X: (9, 1.0), **memory})
    one.load.acquire(X)
    return one


def slow(**memory: tuple[int, float]) -> Server:
    one = server("slow", memory=memory)
    one.load.pace = 4.0
    return one


def busier() -> Server:
    one = busy_with_x()
    one.load.acquire(X)
    return one


def once_fuller(now_loaded: int) -> Server:
    one = server("fuller", memory={X: (20 * GIB, 5.0)}, size=10 * GIB)
    one.load.remembers({X: one.load.memory[X]._replace(size=now_loaded)})
    return one


@pytest.mark.parametrize(
    ("one", "seconds", "leaves"),
    [
        (server("nothing loaded"), 10.0, 0.0),
        (server("one idle", memory={X: (9, 7.0)}), 14.0, 7.0),
        (server("leaves soonest", memory={X: (9, 7.0), Y: (9, 3.0)}), 16.0, 3.0),
        (busy_with_x(), 34.0, 1.0),
        (busy_with_x(**{Y: (9, 8.0)}), 16.0, 8.0),  # the idle one goes, though it leaves later
        (server("loads another", loading={Y: 0.0}), 12.0, 0.0),
        (once_fuller(8 * GIB), 10.0, 0.0),  # 12 GiB are free, and that is what it takes
        (once_fuller(9 * GIB), 14.0, 5.0),
        (spilled(), 3.0, 0.0),
        (busier(), 38.0, 1.0),  # two wait for the load that brings the other model back
        (slow(), 49.0, 0.0),  # 40 s for the load, and 9 s more than elsewhere for the answer
        (slow(**{X: (9, 7.0)}), 65.0, 7.0),
    ],
    ids=lambda value: value.name if isinstance(value, Server) else None,
)
def test_what_a_load_costs(one: Server, seconds: float, leaves: float) -> None:
    (place,) = places([one], M, 4.0, SEEN)
    assert (place.leaves, place.server) == (leaves, one)
    assert place.seconds == pytest.approx(seconds)


def test_by_size_until_a_load_was_seen() -> None:
    (place,) = places([server("a", size=14_000_000_000)], M, 0.0, Estimates())
    assert place.seconds == pytest.approx(16.0)


def test_held_where_it_is_or_will_be() -> None:
    assert holds(server("a", resident=True), M)
    assert holds(server("a", loading={M: 0.0}), M)
    assert not holds(server("a", loading={X: 0.0}), M)
    assert not holds(spilled(), M)
