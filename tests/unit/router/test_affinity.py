"""Consistent hashing with bounded loads: nobody above the bound, few keys moved."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_fleet.router.affinity import bound, by_conversation
from ollama_fleet.router.breaker import BreakerState
from ollama_fleet.router.choose import choose
from ollama_fleet.router.estimates import Estimates
from ollama_fleet.router.ring import MOST_POINTS, Ring, ring_of
from ollama_fleet.router.snapshot import MAX_IN_FLIGHT, Server, State
from tests.unit.router.servers import M, server

KEYS = [number * 2**64 // 2000 for number in range(2000)]
KEY = st.integers(0, 2**64 - 1)


def where(ring: Ring, names: list[str]) -> list[str | None]:
    return [ring.find(key, {name: name for name in names}) for key in KEYS]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_a_new_server_takes_its_share_and_nothing_else_moves(count: int, seed: int) -> None:
    names = [f"server-{seed}-{number}" for number in range(count)]
    more = [*names, f"server-{seed}-new"]
    before = where(Ring(dict.fromkeys(names, 100)), names)
    after = where(Ring(dict.fromkeys(more, 100)), more)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) <= {more[-1]}
    assert len(moved) / len(KEYS) < 1 / len(more) + 0.1
    assert moved


def test_keys_are_spread_by_weight() -> None:
    ring = Ring({"a": 100, "b": 100, "c": 200, "spare": 0})
    counted = Counter(where(ring, ["a", "b", "c", "spare"]))
    assert counted["a"] == pytest.approx(500, abs=100)
    assert counted["c"] == pytest.approx(1000, abs=150)
    assert counted["spare"] < 20


def test_who_is_not_among_them_is_passed_over() -> None:
    ring = Ring(dict.fromkeys("abc", 100))
    assert set(where(ring, ["b"])) == {"b"}
    assert ring.find(0, {}) is None
    assert ring.find(2**64 - 1, {"a": 1}) == 1


def test_the_ring_is_the_same_everywhere_and_of_a_bounded_size() -> None:
    found = where(Ring({"a": 100, "b": 100}), ["a", "b"])[::200]
    assert found == list("aabababaaa")
    huge = Ring({f"s{number}": 10000 for number in range(256)})
    assert len(huge._points) <= MOST_POINTS
    assert ring_of((("a", 100), ("b", 100))) is ring_of((("a", 100), ("b", 100)))


@st.composite
def fleets(draw: st.DrawFn) -> list[Server]:
    return [
        server(
            f"s{number}",
            resident=draw(st.booleans()),
            in_flight=draw(st.integers(0, 12)),
            parallel=draw(st.integers(1, 4)),
            weight=draw(st.sampled_from([0, 50, 100, 300])),
            missed=draw(st.integers(0, 1)),
            state=draw(st.sampled_from([State.READY, State.READY, State.DRAINING])),
            loading=draw(st.sampled_from([{}, {}, {M: 0.0}, {"x:latest": 0.0}])),
            memory=draw(st.sampled_from([{}, {"x:latest": (1, 2.0)}])),
        )
        for number in range(draw(st.integers(1, 6)))
    ]


@settings(deadline=None)
@given(fleets(), KEY)
def test_nobody_above_its_bound_while_another_is_below(servers: list[Server], key: int) -> None:
    ring = ring_of(tuple((one.name, one.endpoint.weight) for one in servers))
    chosen = by_conversation(servers, M, ring, key)
    total = 1 + sum(one.load.in_flight for one in servers)
    weights = sum(one.endpoint.weight for one in servers)
    if len(servers) > 1:
        assert chosen.load.in_flight < bound(chosen, total, weights, len(servers))


@settings(deadline=None)
@given(
    fleets(),
    KEY,
    st.sampled_from(["LeastLoad", "PrefixAffinity", "Weighted", "RoundRobin"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 40),
    st.booleans(),
    st.sampled_from([Estimates(), Estimates({M: 1.0}), Estimates({M: 500.0})]),
)
def test_nobody_is_chosen_who_cannot_take_it(
    servers: list[Server],
    key: int,
    strategy: str,
    draw: float,
    waiting: int,
    capped: bool,
    estimates: Estimates,
) -> None:
    def cap(one: Server) -> int:
        return one.endpoint.parallel

    ring = ring_of(tuple((one.name, one.endpoint.weight) for one in servers))
    decision = choose(
        servers,
        M,
        ("s0",),
        1.0,
        draw,
        strategy,
        waiting,
        cap=cap if capped else None,
        waiting=waiting,
        conversation=(ring, key) if strategy == "PrefixAffinity" else None,
        estimates=estimates,
    )
    able = [one for one in servers if one.state is State.READY and one.name != "s0"]
    assert decision.explain()
    chosen = decision.server
    if chosen is not None:
        assert chosen in able
        assert chosen.load.in_flight < MAX_IN_FLIGHT
        assert chosen.load.breaker.state(1.0) is not BreakerState.OPEN
        assert not capped or chosen.load.models.get(M, 0) < cap(chosen)
        assert not chosen.missed or all(one.missed for one in able)
    elif able:
        assert capped
        assert decision.reason == "NoSlot"
        # Somebody's end is the moment to ask again.
        assert any(one.load.models.get(M) for one in able)
