"""What is deleted is asked for, wanted by nobody, used by nobody."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.plan.demands import key, named
from ollama_fleet.plan.distribution import Around, plan_distribution
from ollama_fleet.plan.drain import Report, Use
from ollama_fleet.plan.prune import Removal, in_use
from ollama_fleet.plan.servers import Installed, Probe, Server
from ollama_fleet.plan.tasks import RegistryFact, Seen
from tests.unit.plan.objects import DIGEST, GIB, NOW, Object, demands, resource, server

OLD = "old:latest"
PRUNE = {"models": [{"name": "new"}], "prune": "Unlisted"}


def has(*models: str, resident: tuple[str, ...] = (), error: str | None = None) -> Probe:
    return Probe(
        version="1",
        installed={model: Installed(DIGEST, GIB) for model in models},
        resident=dict.fromkeys(resident, 1),
        last_seen=NOW,
        error=error,
    )


def plan(spec: Object, *servers: Server, others: tuple[Object, ...] = (), **changes: Any) -> Any:
    own = resource("ModelDistribution", "md", spec)
    all_of_them = [own, *(resource("ModelDistribution", f"o{i}", o) for i, o in enumerate(others))]
    shared = changes.pop("shared", ())
    facts = {name: RegistryFact(DIGEST, GIB) for name in ("new:latest", "other:latest")}
    seen = replace(Seen(facts, {}, {}), **changes)
    return plan_distribution(own, servers, True, seen, NOW, Around(demands(all_of_them), shared))


GONE = [("a-0", OLD)]


def gone(made: Any) -> list[tuple[str, str]]:
    return [(one.server, one.model) for one in made.delete]


@pytest.mark.parametrize(
    ("spec", "server_", "others", "changes", "deleted"),
    [
        (PRUNE, server(probe=has("new:latest", OLD)), (), {}, GONE),
        ({**PRUNE, "prune": "Never"}, server(probe=has("new:latest", OLD)), (), {}, []),
        ({**PRUNE, "suspend": True}, server(probe=has("new:latest", OLD)), (), {}, []),
        ({**PRUNE, "dryRun": True}, server(probe=has("new:latest", OLD)), (), {}, []),
        # first what is wanted, then what is not
        (PRUNE, server(probe=has(OLD)), (), {}, []),
        (
            PRUNE,
            server(probe=has(OLD)),
            (),
            {"registry": {"new:latest": RegistryFact(missing=True)}},
            GONE,
        ),
        (PRUNE, server(probe=has("new:latest", OLD)), (), {"arriving": {"a-0": {}}}, []),
        (PRUNE, server(probe=has("new:latest", OLD)), (), {"arriving": {"a-1": {}}}, GONE),
        (PRUNE, server(probe=has("new:latest", OLD), state="Offline"), (), {}, []),
        (PRUNE, server(probe=has("new:latest", OLD), state="Draining"), (), {}, []),
        (PRUNE, server(probe=has("new:latest", OLD, error="?")), (), {}, []),
        (PRUNE, server(probe=has("new:latest", OLD)), (), {"shared": ["http://a-0:11434"]}, []),
        # somebody else wants it
        (PRUNE, server(probe=has("new:latest", OLD)), ({"models": [{"name": "old"}]},), {}, []),
        (PRUNE, server(probe=has("new:latest", OLD)), ({"models": [{"name": "OLD"}]},), {}, []),
        (
            PRUNE,
            server(probe=has("new:latest", OLD)),
            ({"models": [{"name": "old"}], "target": {"servers": ["a-1"]}},),
            {},
            GONE,
        ),
        (
            PRUNE,
            server(probe=has("new:latest", OLD)),
            ({"models": [{"name": "other", "fallbacks": ["old"]}]},),
            {},
            [],
        ),
        (
            PRUNE,
            server(probe=has("new:latest", OLD)),
            ({"bestFit": {"candidates": ["old"]}},),
            {},
            [],
        ),
        (
            PRUNE,
            server(probe=has("new:latest", OLD)),
            ({"models": [{"name": "old"}], "suspend": True},),
            {},
            [],
        ),
        # one of another tier goes, unless nobody knows the tier
        (
            PRUNE,
            server(probe=has("new:latest", OLD)),
            (
                {
                    "tiers": [
                        {"minMemory": "80G", "models": [{"name": "old"}]},
                        {"minMemory": 0, "models": [{"name": "other"}]},
                    ]
                },
            ),
            {},
            GONE,
        ),
        (
            PRUNE,
            server(probe=has("new:latest", OLD), memory=None),
            ({"tiers": [{"minMemory": "80G", "models": [{"name": "old"}]}]},),
            {},
            [],
        ),
        # it cannot be read what it wants
        (PRUNE, server(probe=has("new:latest", OLD)), ({"models": "?"},), {}, []),
    ],
)
def test_what_goes(
    spec: Object, server_: Server, others: Any, changes: Any, deleted: list[tuple[str, str]]
) -> None:
    assert gone(plan(spec, server_, others=others, **changes)) == deleted


def test_a_dry_run_says_what_would_go() -> None:
    made = plan({**PRUNE, "dryRun": True}, server(probe=has("new:latest", OLD)))
    assert f"would delete {OLD} on a-0 (1 GiB)" in made.plan.status["conditions"][0]["message"]
    assert made.plan.status["summary"]["unlisted"] == 1


URL = "http://a-0:11434"


@pytest.mark.parametrize(
    ("resident", "reports", "used"),
    [
        (False, [], False),
        (True, [], True),
        (True, [{}], False),
        (True, [{URL: Use(True, 0)}], False),
        (True, [{URL: Use(True, 2, {"new:latest": 2})}], False),
        (True, [{}, {URL: Use(True, 1, {"old:latest": 1})}], True),
        # not in memory yet, but about to be
        (False, [{URL: Use(True, 1, {"OLD:latest": 1})}], True),
        # an older router, and one that does not answer
        (False, [{URL: Use(True, 1)}], True),
        (False, [{}, None], True),
    ],
)
def test_what_is_used_stays(resident: bool, reports: list[Report | None], used: bool) -> None:
    assert in_use(Removal("a-0", "a", URL, OLD, 1, resident), reports) is used


NAMES = st.sampled_from(["a", "b", "c:1b", "C:1b", "team/d", "e", "f"])
MODELS = st.lists(
    st.builds(
        lambda name, more: {"name": name, "fallbacks": more}, NAMES, st.lists(NAMES, max_size=2)
    ),
    min_size=1,
    max_size=3,
)
SPECS = st.builds(
    lambda models, tiers, target, more: {**models, **tiers, "target": target, **more},
    st.one_of(st.just({}), st.builds(lambda models: {"models": models}, MODELS)),
    st.builds(
        lambda big, small: {
            "tiers": [{"minMemory": "16G", "models": big}, {"minMemory": "8G", "models": small}]
        },
        MODELS,
        MODELS,
    ),
    st.sampled_from([{}, {"servers": ["a-0"]}, {"servers": ["a-1"]}, {"ollamaNodes": ["b"]}]),
    st.sampled_from([{}, {"suspend": True}, {"dryRun": True}, {"pullPolicy": "Never"}]),
)


@given(
    st.lists(SPECS, max_size=3),
    SPECS,
    st.lists(st.tuples(st.sampled_from([4, 12, 24, None]), st.sets(NAMES)), max_size=3),
)
def test_nothing_that_anybody_wants_is_deleted(
    others: list[Object], own: Object, there: list[tuple[int | None, set[str]]]
) -> None:
    servers = [
        server(f"a-{index}", memory, probe=has(*models))
        for index, (memory, models) in enumerate(there)
    ]
    made = plan({**own, "prune": "Unlisted"}, *servers, others=tuple(others))
    by_name = {one.name: one for one in servers}
    specs = demands(resource("ModelDistribution", "x", spec) for spec in (own, *others))
    for one in made.delete:
        at = by_name[one.server]
        for demand in specs:
            assert demand.spec is not None
            if not demand.means(at):
                continue
            spec = demand.spec
            size = at.memory.size
            ranks = [index for index, least in enumerate((16e9, 8e9)) if size and size >= least]
            models = list(spec.models or ())
            if size is None:
                models = named(spec)
            elif ranks:
                assert spec.tiers is not None
                models += spec.tiers[ranks[0]].models
            for model in models:
                assert key(one.model) not in map(key, (model.name, *model.fallbacks))
