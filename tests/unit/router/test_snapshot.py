"""The picture of all servers after one of them has changed."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.router.snapshot import Endpoint, Fleet, Load, Model, Server, Snapshot, State
from tests.unit.router.servers import breaker

NAMES = ("a", "aa", "b", "c")
MODELS = ("m:latest", "n:latest", "o:latest")
PINS = ((), ((MODELS[0], "sha256:aa"),), ((MODELS[1], "bb"), (MODELS[2], "bb")))
SEEN = st.fixed_dictionaries(
    {
        "state": st.sampled_from([State.READY, State.OFFLINE]),
        "installed": st.dictionaries(st.sampled_from(MODELS), st.sampled_from(["aa", "bb"])),
        "loaded": st.frozensets(st.sampled_from(MODELS)),
    }
)


def seen(server: Server, state: State, installed: dict[str, str], loaded: frozenset[str]) -> Server:
    models = {name: Model(name, digest) for name, digest in installed.items()}
    return replace(server, state=state, installed=models, loaded=loaded)


@given(
    st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
    st.sampled_from(PINS),
    st.lists(st.tuples(st.sampled_from(NAMES), SEEN), max_size=12),
)
def test_it_is_what_it_would_be_made_anew(
    names: list[str], pins: tuple[tuple[str, str], ...], probes: list[tuple[str, dict[str, Any]]]
) -> None:
    fleet = Fleet(breaker, lambda: 0.0)
    fleet.want(Endpoint(name, "127.0.0.1", 1, pins=pins) for name in names)
    for name, found in probes:
        known = fleet.get(name)
        if known is not None:
            fleet.observe(seen(known, **found))
        anew = Snapshot.of(fleet.snapshot.servers)
        assert fleet.snapshot == anew
        assert fleet.get(name) in (None, *anew.servers)
        for model in MODELS:
            key = 2**63
            holders = {one.name: one for one in anew.holders.get(model, ())}
            assert fleet.snapshot.ring(model).find(key, holders) == anew.ring(model).find(
                key, holders
            )


def test_a_snapshot_stays_what_it_was() -> None:
    fleet = Fleet(breaker, lambda: 0.0)
    fleet.want([Endpoint("a", "127.0.0.1", 1), Endpoint("b", "127.0.0.1", 1)])
    before = fleet.snapshot
    known = before.servers[0]
    fleet.observe(seen(known, State.READY, {MODELS[0]: ""}, frozenset()))
    assert before.servers[0] is known
    assert not before.holders
    assert [one.name for one in fleet.snapshot.holders[MODELS[0]]] == ["a"]


def test_who_hears_of_which_change() -> None:
    fleet = Fleet(breaker, lambda: 0.0)
    wanted: list[Snapshot] = []
    changed: list[Snapshot] = []
    fleet.on_want(wanted.append)
    fleet.on_change(lambda: changed.append(fleet.snapshot))
    endpoint = Endpoint("a", "127.0.0.1", 1)
    fleet.want([endpoint])
    first = fleet.snapshot
    fleet.want([endpoint])
    known = fleet.get("a")
    assert known is not None
    fleet.observe(replace(known, state=State.READY))
    fleet.observe(Server(endpoint, known.load, State.READY))
    assert wanted == [first]
    assert changed == [first, fleet.snapshot]
    fleet.observe(Server(endpoint, Load(breaker), State.OFFLINE))
    assert changed == [first, fleet.snapshot]
