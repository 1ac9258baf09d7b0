"""Filter, score, pick; and the breaker."""

from collections import Counter
from typing import Any

import pytest

from ollama_fleet.router.breaker import BreakerState
from ollama_fleet.router.choose import choose
from ollama_fleet.router.estimates import Estimates
from ollama_fleet.router.ring import ring_of
from ollama_fleet.router.snapshot import MAX_IN_FLIGHT, Endpoint, Fleet, Model, Server, State
from tests.unit.router.servers import M, breaker, server

QUICK_LOAD = Estimates({M: 1.0}, {M: 10.0})
SLOW_LOAD = Estimates({M: 100.0}, {M: 10.0})


def picks(*servers: Server, tried: tuple[str, ...] = (), now: float = 0.0) -> set[str]:
    """Every server that some throw of the dice picks."""
    found = set()
    for step in range(100):
        chosen = choose(servers, M, tried, now, step / 100).server
        if chosen is not None:
            found.add(chosen.name)
    return found


def test_only_ready_servers() -> None:
    states = [State.STARTING, State.DRAINING, State.OFFLINE]
    others = [server(state.value, state=state) for state in states]
    assert picks(*others, server("a")) == {"a"}
    decision = choose(others, M, (), 0.0, 0.0)
    assert (decision.server, decision.reason, decision.holders) == (None, "NoneReady", 3)


def test_not_twice() -> None:
    assert picks(server("a"), server("b"), tried=("a",)) == {"b"}
    assert choose([server("a")], M, ("a",), 0.0, 0.0).reason == "AllTried"


def test_resident_with_a_free_slot_first() -> None:
    warm = server("warm", resident=True, in_flight=1, parallel=2)
    assert picks(warm, server("cold")) == {"warm"}
    assert picks(server("idle", resident=True), warm, server("cold")) == {"idle"}


def decides(*servers: Server, waiting: int = 0, **more: Any) -> tuple[str | None, str]:
    decision = choose(servers, M, (), 5.0, 0.0, waiting=waiting, **more)
    return decision.server.name if decision.server else None, decision.reason


def test_all_warm_slots_taken_a_load_is_weighed_against_the_wait() -> None:
    full, cold = server("full", resident=True, in_flight=1), server("cold")
    assert decides(full, cold, estimates=QUICK_LOAD) == ("cold", "Cold")
    assert decides(full, cold, estimates=SLOW_LOAD) == ("full", "Waits")
    assert decides(full, cold, estimates=SLOW_LOAD, cap=parallel) == (None, "NoSlot")
    # Ten that wait before it: eleven answers of 10 s each take longer than the load.
    assert decides(full, cold, waiting=10, estimates=SLOW_LOAD, cap=parallel) == ("cold", "Cold")
    assert decides(full, server("also", resident=True, in_flight=1))[1] == "Waits"


def test_a_model_is_not_loaded_twice_at_a_time() -> None:
    loading, cold = server("loading", in_flight=1, loading={M: 4.5}, parallel=2), server("cold")
    assert decides(loading, cold, estimates=QUICK_LOAD) == ("loading", "Loading")
    loading.load.acquire(M)
    # Nobody waits longer than 100 s for the rest of the load and 5 s for a slot.
    assert decides(loading, cold, estimates=SLOW_LOAD) == ("loading", "Loading")
    assert decides(loading, cold, estimates=SLOW_LOAD, cap=parallel) == (None, "NoSlot")
    # One server cannot serve the demand: the second copy comes.
    assert decides(loading, cold, waiting=30, estimates=SLOW_LOAD) == ("cold", "Cold")


def test_who_loads_something_else_is_not_asked_where_another_is_warm() -> None:
    other = server("other", resident=True, loading={"x:latest": 0.0})
    assert picks(other, server("warm", resident=True)) == {"warm"}
    assert decides(other, server("cold"), estimates=SLOW_LOAD) == ("other", "Waits")


def test_loaded_where_it_evicts_least() -> None:
    empty = server("empty")
    idle = server("idle", memory={"x:latest": (9, 50.0)})
    soon = server("soon", memory={"x:latest": (9, 20.0)})
    busy = server("busy", memory={"x:latest": (9, 10.0)})
    busy.load.acquire("x:latest")
    assert decides(busy, idle, empty, soon) == ("empty", "Cold")
    assert decides(busy, idle, soon) == ("soon", "Cold")
    assert decides(busy, idle) == ("idle", "Cold")


def test_what_loads_nothing_goes_to_any_server() -> None:
    servers = [server("warm", resident=True, in_flight=1), server("cold")]
    assert choose(servers, M, (), 0.0, 0.0, loads=False).server is servers[1]


def conversation(*servers: Server, key: int = 7, **more: Any) -> tuple[str, str]:
    ring = ring_of(tuple((one.name, one.endpoint.weight) for one in servers))
    decision = choose(servers, M, (), 0.0, 0.0, "PrefixAffinity", conversation=(ring, key), **more)
    assert decision.server is not None
    return decision.server.name, decision.reason


def test_a_conversation_stays_while_its_server_has_not_more_than_its_share() -> None:
    servers = [server(name, resident=True) for name in "abcd"]
    home, reason = conversation(*servers)
    assert reason == "Conversation"
    (at,) = (one for one in servers if one.name == home)
    rest = [one for one in servers if one is not at]
    for one in rest:
        one.load.acquire(M)
    at.load.acquire(M)
    # Its slot is taken, as are all: 5 requests, of which each server takes up to 2.
    assert conversation(*servers)[0] == home
    at.load.acquire(M)
    away = conversation(*servers)[0]
    assert away != home
    assert conversation(*servers)[0] == away  # where the next ones that overflow go, too
    at.load.release(M)
    assert conversation(*servers)[0] == home


def test_a_conversation_follows_the_model_and_causes_no_load() -> None:
    servers = [server(name) for name in "abcd"]
    warm = server("warm", resident=True)
    assert {conversation(*servers, warm, key=key << 58) for key in range(64)} == {
        ("warm", "Conversation")
    }
    warm.load.acquire(M)
    assert conversation(*servers, warm, estimates=SLOW_LOAD) == ("warm", "Conversation")
    assert conversation(*servers, warm, estimates=QUICK_LOAD)[1] == "Cold"


def test_without_a_conversation_affinity_is_least_load() -> None:
    warm = server("warm", resident=True)
    assert decides(warm, server("cold"), strategy="PrefixAffinity") == ("warm", "Resident")


def test_a_slot_is_per_model() -> None:
    warm = server("warm", resident=True, parallel=1)
    warm.load.acquire("other:latest")
    assert picks(warm, server("cold")) == {"warm"}


def parallel(server: Server) -> int:
    return server.endpoint.parallel


@pytest.mark.parametrize("strategy", ["LeastLoad", "Weighted", "RoundRobin"])
def test_none_while_every_server_is_at_its_cap(strategy: str) -> None:
    one, two = server("one", resident=True, in_flight=1), server("two", in_flight=1, parallel=2)
    chosen = choose([one, two], M, (), 0.0, 0.0, strategy, cap=parallel)
    assert chosen.server is two
    two.load.acquire(M)
    decision = choose([one, two], M, (), 0.0, 0.0, strategy, cap=parallel)
    assert (decision.server, decision.reason) == (None, "NoSlot")
    assert decision.explain() == "none (NoSlot); 2 have the model, 2 can take it"
    two.load.release(M)
    assert choose([one, two], M, (), 0.0, 0.0, strategy, cap=parallel).server is two


def test_a_slot_is_rather_waited_for_than_taken_where_the_model_keeps_failing() -> None:
    bad, full = server("bad"), server("full", in_flight=1)
    for _ in range(3):
        bad.load.fault(M).failed(0.0)
    assert choose([bad, full], M, (), 1.0, 0.0, cap=parallel).reason == "NoSlot"


def test_a_server_of_weight_zero_takes_what_the_others_have_no_slot_for() -> None:
    spare, full = server("spare", weight=0), server("full", in_flight=1)
    assert choose([spare, full], M, (), 0.0, 0.0, cap=parallel).server is spare


def counted(strategy: str, *servers: Server, tried: tuple[str, ...] = ()) -> Counter[str]:
    """How often each is chosen, of a thousand requests whose dice fall evenly."""
    found: Counter[str] = Counter()
    for turn in range(1000):
        chosen = choose(servers, M, tried, 0.0, turn / 1000, strategy, turn).server
        assert chosen is not None
        found[chosen.name] += 1
    return found


def test_by_weight_each_gets_its_share_whatever_its_load() -> None:
    busy = server("busy", weight=300, in_flight=50, parallel=1)
    small = server("small", weight=100, resident=True)
    assert counted("Weighted", busy, small) == {"busy": 750, "small": 250}
    spare = server("spare", weight=0)
    assert counted("Weighted", busy, small, spare)["spare"] == 0
    assert counted("Weighted", busy, small, spare, tried=("busy", "small")) == {"spare": 1000}
    other = server("other", weight=0)
    assert counted("Weighted", spare, other) == {"spare": 500, "other": 500}


def test_in_turns_each_gets_the_same_whatever_its_weight() -> None:
    servers = [server("a", resident=True), server("b", weight=1), server("c", in_flight=9)]
    assert counted("RoundRobin", *servers, server("d", state=State.DRAINING)) == {
        "a": 334,
        "b": 333,
        "c": 333,
    }


@pytest.mark.parametrize("strategy", ["Weighted", "RoundRobin"])
def test_every_strategy_passes_over_who_cannot_take_it(strategy: str) -> None:
    failing = server("failing")
    for _ in range(3):
        failing.load.breaker.failed(0.0)
    full = server("full", in_flight=MAX_IN_FLIGHT)
    assert counted(strategy, failing, full, server("missed", missed=1), server("a")) == {"a": 1000}
    decision = choose([server("a")], M, (), 0.0, 0.5, strategy)
    assert decision.reason == strategy


def test_least_outstanding_of_two() -> None:
    assert picks(server("a", in_flight=3), server("b", in_flight=1)) == {"b"}


def test_the_most_loaded_of_many_is_never_picked_and_the_rest_share() -> None:
    servers = [server("busy", in_flight=9), *(server(f"s{index}") for index in range(4))]
    counted = Counter(
        chosen.name
        for step in range(1000)
        if (chosen := choose(servers, M, (), 0.0, step / 1000).server)
    )
    assert "busy" not in counted
    assert min(counted.values()) > 150


def test_weight_scales_load() -> None:
    strong = server("strong", in_flight=2, weight=300)
    assert picks(strong, server("weak", in_flight=1, weight=100)) == {"strong"}


def test_weight_zero_only_if_nothing_else_can() -> None:
    spare = server("spare", weight=0, resident=True)
    assert picks(spare, server("a", in_flight=5)) == {"a"}
    assert picks(spare, server("a", state=State.OFFLINE)) == {"spare"}


def test_a_server_that_misses_probes_is_the_last_resort() -> None:
    assert picks(server("a", missed=1), server("b", in_flight=7)) == {"b"}
    assert picks(server("a", missed=1)) == {"a"}


def test_busy_attracts_nothing_for_its_cooldown() -> None:
    busy = server("busy")
    busy.load.busy_until = 1.0
    assert picks(busy, server("b", in_flight=7), now=0.5) == {"b"}
    assert picks(busy, now=0.5) == {"busy"}
    assert picks(busy, server("b", in_flight=7), now=1.5) == {"busy"}


def test_a_model_that_keeps_failing_on_a_server_is_tried_elsewhere() -> None:
    bad = server("bad")
    for _ in range(3):
        bad.load.fault(M).failed(0.0)
    assert picks(bad, server("b", in_flight=7), now=1.0) == {"b"}
    assert picks(bad, now=1.0) == {"bad"}


def test_an_open_breaker_takes_nothing() -> None:
    dead = server("dead")
    for _ in range(3):
        dead.load.breaker.failed(0.0)
    assert choose([dead], M, (), 1.0, 0.0).reason == "AllFailing"
    assert picks(dead, now=6.0) == {"dead"}


def test_full() -> None:
    assert choose([server("a", in_flight=MAX_IN_FLIGHT)], M, (), 0.0, 0.0).reason == "AllFull"


def test_the_decision_explains_itself() -> None:
    decision = choose([server("a", resident=True), server("b", state=State.OFFLINE)], M, (), 0, 0)
    told = decision.explain()
    assert (
        told
        == "a (Resident); 2 have the model, 1 can take it, 1 preferred, 1 warm with a free slot"
    )


def test_a_decision_tells_what_was_weighed() -> None:
    servers = [server("full", resident=True, in_flight=1), server("cold")]
    decision = choose(servers, M, (), 0.0, 0.0, estimates=SLOW_LOAD)
    assert decision.explain() == (
        "full (Waits); 2 have the model, 2 can take it, 2 preferred, 0 warm with a free slot, "
        "10.0 s to wait, 100.0 s to load"
    )


def test_breaker_opens_doubles_and_closes() -> None:
    one = breaker()
    one.failed(0.0)
    one.failed(0.0)
    assert one.state(0.0) is BreakerState.CLOSED
    one.failed(0.0)
    assert one.state(4.9) is BreakerState.OPEN
    assert one.state(5.0) is BreakerState.HALF_OPEN
    one.trying(5.0)
    assert one.state(5.1) is BreakerState.OPEN  # one at a time
    assert one.state(10.0) is BreakerState.HALF_OPEN
    one.failed(10.0)
    assert one.state(19.9) is BreakerState.OPEN  # 10 s now
    one.may_try()
    assert one.state(19.9) is BreakerState.HALF_OPEN
    one.succeeded()
    assert one.state(19.9) is BreakerState.CLOSED
    assert one.row == 0


@pytest.mark.parametrize("state", [State.DRAINING, State.STARTING])
def test_a_state_imposed_from_outside_wins_over_probes(state: State) -> None:
    fleet = Fleet(breaker, lambda: 0.0)
    fleet.want([Endpoint("a", "127.0.0.1", 1, held=state)])
    known = fleet.get("a")
    assert known is not None
    fleet.observe(Server(known.endpoint, known.load, State.READY))
    assert fleet.snapshot.servers[0].state is state
    fleet.want([Endpoint("a", "127.0.0.1", 1)])
    assert fleet.snapshot.servers[0].state is State.STARTING


def test_a_server_that_moved_starts_anew_and_its_models_are_still_expected() -> None:
    now = [0.0]
    fleet = Fleet(breaker, lambda: now[0])
    fleet.want([Endpoint("a", "127.0.0.1", 1)])
    first = fleet.get("a")
    assert first is not None
    fleet.observe(Server(first.endpoint, first.load, State.READY, "", {M: Model(M, "")}))
    assert M in fleet.snapshot.holders
    fleet.want([Endpoint("a", "127.0.0.2", 1)])
    fleet.observe(Server(first.endpoint, first.load, State.READY))  # too late
    assert fleet.snapshot.servers[0].state is State.STARTING
    assert M not in fleet.snapshot.holders
    assert fleet.expects(M)
    now[0] = 3600.0
    assert not fleet.expects(M)


@pytest.mark.parametrize(
    ("pinned", "installed", "offered"),
    [
        ("sha256:aa", "aa", True),
        ("sha256:aa", "sha256:aa", True),
        ("sha256:aa", "bb", False),
        ("sha256:aa", "", False),
    ],
)
def test_a_model_with_another_digest_than_is_pinned_is_not_offered(
    pinned: str, installed: str, offered: bool
) -> None:
    fleet = Fleet(breaker, lambda: 0.0)
    fleet.want([Endpoint("a", "127.0.0.1", 1, pins=((M, pinned),))])
    known = fleet.get("a")
    assert known is not None
    fleet.observe(Server(known.endpoint, known.load, State.READY, "", {M: Model(M, installed)}))
    assert (M in fleet.snapshot.holders) is offered
    assert (M in fleet.snapshot.withheld) is not offered
    fleet.observe(Server(known.endpoint, known.load, State.READY, "", {M: Model(M, "aa")}))
    assert M in fleet.snapshot.holders
    fleet.want([Endpoint("a", "127.0.0.1", 1, pins=((M, "sha256:cc"),))])
    assert M not in fleet.snapshot.holders
