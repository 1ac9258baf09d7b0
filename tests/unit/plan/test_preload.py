"""What is kept in a server's memory: one answer for all distributions, and no ping-pong."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.plan.architecture import Architecture
from ollama_fleet.plan.preload import held_on, kept_on, next_edge, orders, refused
from ollama_fleet.plan.servers import Installed, Probe, Server
from ollama_fleet.plan.sizing import Shape, Weights
from tests.unit.plan.objects import DIGEST, GIB, NOW, OTHER, Object, demands, pod, resource, server

LLAMA = Architecture("llama", 32 * 8 * 256, 0, 0, 32, 4096, 128256, 131072)
NIGHT = {"start": "22:00", "end": "06:00"}
DAY = {"start": "08:00", "end": "20:00"}


def warm(*names: str, **more: Any) -> Object:
    return {"models": [{"name": name, "preload": True, **more} for name in names]}


def at(
    *installed: str, resident: tuple[str, ...] = (), lasting: tuple[str, ...] = (), **more: Any
) -> Server:
    probe = Probe(
        version="1",
        installed={name: Installed(DIGEST, 4 * GIB) for name in installed},
        resident=dict.fromkeys((*resident, *lasting), 5 * GIB),
        lasting=frozenset(lasting),
        last_seen=NOW,
    )
    told = {"max_loaded": 2, "shapes": {DIGEST: Shape()}, **more}
    return server(probe=probe, pod=pod("a-0"), **told)


def kept(one: Server, *specs: Object, now: Any = NOW) -> Any:
    made = [resource("ModelDistribution", f"m{number}", spec) for number, spec in enumerate(specs)]
    return kept_on(demands(made), one, now)


@pytest.mark.parametrize(
    ("one", "specs", "models", "left"),
    [
        (at("a:1b", "b:1b"), [warm("a:1b")], ["a:1b"], []),
        (at("a:1b", "b:1b"), [{"models": [{"name": "a:1b"}]}], [], []),
        (at("b:1b"), [warm("a:1b")], [], []),
        (at("b:1b"), [warm("a:1b", fallbacks=["c:1b", "b:1b"])], ["b:1b"], []),
        (at("a:1b", "b:1b"), [warm("a:1b", fallbacks=["b:1b"])], ["a:1b"], []),
        (at("a:1b"), [warm("a:1b"), warm("A:1b")], ["a:1b"], []),
        # the older, and the first listed, come first
        (at("a:1b", "b:1b", max_loaded=1), [warm("b:1b", "a:1b")], ["b:1b"], ["a:1b"]),
        (at("a:1b", "b:1b", max_loaded=1), [warm("b:1b"), warm("a:1b")], ["b:1b"], ["a:1b"]),
        (at("a:1b", "b:1b", max_loaded=None), [warm("b:1b", "a:1b")], ["b:1b", "a:1b"], []),
        # not more than the memory holds; but one alone is the server's own affair
        (at("a:1b", "b:1b", memory=7), [warm("a:1b", "b:1b")], ["a:1b"], ["b:1b"]),
        (at("a:1b", "b:1b", memory=2), [warm("a:1b")], ["a:1b"], []),
        (at("a:1b", "b:1b", memory=None), [warm("a:1b", "b:1b")], ["a:1b", "b:1b"], []),
        # with the right digest only
        (at("a:1b"), [warm("a:1b", digest=OTHER)], [], []),
        (at("a:1b"), [warm("a:1b", digest=DIGEST)], ["a:1b"], []),
        (at("a:1b"), [{**warm("a:1b"), "target": {"servers": ["x"]}}], [], []),
        (at("a:1b"), [{**warm("a:1b"), "suspend": True}], ["a:1b"], []),
        (at("a:1b"), [{**warm("a:1b"), "dryRun": True}], [], []),
        (at("a:1b"), [warm("a:1b", schedule=DAY)], ["a:1b"], []),
        (at("a:1b"), [warm("a:1b", schedule=NIGHT)], [], []),
        (at("a:1b"), [warm("a:1b", schedule=NIGHT), warm("a:1b")], ["a:1b"], []),
    ],
)
def test_what_is_kept(one: Server, specs: list[Object], models: list[str], left: list[str]) -> None:
    found = kept(one, *specs)
    assert list(found.models) == models
    assert [each.model for each in found.left_out] == left


@pytest.mark.parametrize(
    ("memory", "sizing", "models"),
    [
        (12, {}, ["a:1b"]),
        (13, {}, ["a:1b", "b:1b"]),
        (12, {"kvCacheType": "q4_0"}, ["a:1b", "b:1b"]),
        (13, {"contextLength": 16384}, ["a:1b"]),
        (13, {"headroom": "2Gi"}, ["a:1b"]),
        (2, {}, ["a:1b"]),
    ],
)
def test_what_is_computed_decides_whether_two_fit(
    memory: int, sizing: Object, models: list[str]
) -> None:
    shape = {DIGEST: Shape(LLAMA, Weights(4 * GIB))}
    wanted = {**warm("a:1b", "b:1b"), "sizing": sizing}
    one = at("a:1b", "b:1b", memory=memory, shapes=shape)
    assert list(kept(one, wanted).models) == models
    # what they are measured to hold, 5 GiB each, would have it go back and forth
    for lasting in (("a:1b",), ("b:1b",), ("a:1b", "b:1b")):
        loaded = at("a:1b", "b:1b", lasting=lasting, memory=memory, shapes=shape)
        assert list(kept(loaded, wanted).models) == models
    # a server says no more than how large it is
    one = at("a:1b", "b:1b", memory=memory, shapes={DIGEST: Shape(LLAMA)})
    assert list(kept(one, wanted).models) == models


def test_what_finds_no_room_says_what_it_needs() -> None:
    shape = {DIGEST: Shape(LLAMA, Weights(4 * GIB))}
    (left,) = kept(at("a:1b", "b:1b", memory=12, shapes=shape), warm("a:1b", "b:1b")).left_out
    assert left.why == (
        "it needs 6.5 GiB, a:1b 6 GiB of 12 GiB and comes first. Preload fewer or smaller ones."
    )


def test_before_anybody_was_asked_what_models_need_nothing_beside_the_first_is_touched() -> None:
    both = warm("a:1b", "b:1b")
    one = at("a:1b", "b:1b", memory=12, shapes={})
    assert ordered(one, both) == [("a:1b", -1)]
    assert kept(one, both).left_out == ()
    held = at("a:1b", "b:1b", lasting=("a:1b", "b:1b"), memory=12, shapes={})
    assert ordered(held, both, preloaded=("a:1b", "b:1b")) == []
    assert ordered(at("a:1b", "b:1b", memory=None, shapes={}), both) == [("a:1b", -1), ("b:1b", -1)]


def ordered(one: Server, *specs: Object, preloaded: tuple[str, ...] = ()) -> list[Any]:
    before = {"preloaded": list(preloaded)}
    return [
        (order.model, order.keep_alive) for order in orders(kept(one, *specs), one, before, "30m")
    ]


@pytest.mark.parametrize(
    ("one", "specs", "preloaded", "expected"),
    [
        (at("a:1b"), [warm("a:1b")], (), [("a:1b", -1)]),
        # somebody loaded it for some minutes only
        (at("a:1b", resident=("a:1b",)), [warm("a:1b")], (), [("a:1b", -1)]),
        (at("a:1b", lasting=("a:1b",)), [warm("a:1b")], ("a:1b",), []),
        # withdrawn: back to what the server does by itself
        (at("a:1b", lasting=("a:1b",)), [], ("a:1b",), [("a:1b", "30m")]),
        (at("a:1b", resident=("a:1b",)), [], ("a:1b",), []),
        (at("a:1b"), [], ("a:1b",), []),
        # not ours
        (at("a:1b", lasting=("a:1b",)), [], (), []),
        (at("a:1b", lasting=("a:1b",)), [{**warm("a:1b"), "dryRun": True}], ("a:1b",), []),
        (at("a:1b", state="Offline"), [warm("a:1b")], (), []),
        (
            at("a:1b", "b:1b", lasting=("a:1b",)),
            [warm("b:1b")],
            ("a:1b",),
            [("a:1b", "30m"), ("b:1b", -1)],
        ),
    ],
)
def test_what_is_loaded_and_let_go(
    one: Server, specs: list[Object], preloaded: tuple[str, ...], expected: list[Any]
) -> None:
    assert ordered(one, *specs, preloaded=preloaded) == expected


def test_a_server_that_keeps_everything_for_ever_lets_nothing_go() -> None:
    one = at("a:1b", lasting=("a:1b",))
    assert orders(kept(one), one, {"preloaded": ["a:1b"]}, "-1") == ()


def test_status_remembers_what_is_still_held() -> None:
    one = at("a:1b", "b:1b", lasting=("b:1b",))
    before = {"preloaded": ["b:1b", "gone:1b"]}
    assert held_on(kept(one, warm("a:1b")), one, before) == ["a:1b", "b:1b"]


def test_whoever_finds_no_room_is_told() -> None:
    one = at("a:1b", "b:1b", max_loaded=1)
    both = demands(
        [
            resource("ModelDistribution", "m0", warm("a:1b")),
            resource("ModelDistribution", "m1", warm("b:1b")),
        ]
    )
    assert refused(both, "m0", [one], NOW) is None
    verdict = refused(both, "m1", [one], NOW)
    assert verdict is not None
    assert verdict.message == (
        "a-0: b:1b is not kept in memory: server.maxLoadedModels is 1 and a:1b comes first. "
        "Raise it, or preload fewer."
    )


def test_hours_begin_and_end() -> None:
    wanted = demands([resource("ModelDistribution", "m", warm("a:1b", schedule=DAY))])
    assert next_edge(wanted, NOW) == timedelta(hours=8).total_seconds()
    assert next_edge(wanted, NOW + timedelta(hours=9)) == timedelta(hours=11).total_seconds()
    assert next_edge(demands([resource("ModelDistribution", "m", warm("a:1b"))]), NOW) is None
    one = replace(at("a:1b"))
    assert kept(one, warm("a:1b", schedule=DAY), now=NOW + timedelta(hours=9)).models == ()
