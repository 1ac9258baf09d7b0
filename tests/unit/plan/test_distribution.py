from datetime import timedelta

import pytest

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import Target
from ollama_fleet.plan.distribution import plan_distribution, targeted
from ollama_fleet.plan.servers import Probe
from ollama_fleet.plan.tasks import Failure, RegistryFact, Running
from tests.unit.plan.objects import DIGEST, GIB, NOW, Object, probe, resource, server
from tests.unit.plan.planning import LLAMA, REGISTRY, TASK, WANT, condition, only_task, plan, seen

TIERS = {
    "tiers": [
        {"minMemory": "16G", "models": [{"name": "gpt-oss:20b"}]},
        {"minMemory": "8G", "models": [{"name": LLAMA}]},
        {"minMemory": "4.5G", "models": [{"name": "tiny"}]},
    ]
}


@pytest.mark.parametrize(
    ("gib", "model"),
    [(24, "gpt-oss:20b"), (16, "gpt-oss:20b"), (12, LLAMA), (8, LLAMA), (6, "tiny:latest")],
)
def test_a_server_gets_the_first_tier_its_memory_has(gib: int, model: str) -> None:
    made = plan(TIERS, server(memory=gib))
    assert only_task(made)["model"] == model
    assert [order.model for order in made.start] == [model]


def test_a_server_below_every_tier_is_named_with_the_remedy() -> None:
    made = plan(TIERS, server(memory=2))
    assert condition(made, "Stalled") == ("True", "NoMatchingTier")
    assert "a-0 has 2 GiB" in made.plan.status["conditions"][0]["message"]


def test_tiers_wait_where_memory_is_unknown() -> None:
    made = plan(TIERS, server(memory=None))
    assert made.start == ()
    assert condition(made, "Stalled") == ("True", "MemoryUnknown")


@pytest.mark.parametrize(("limit", "starts"), [(1, 1), (2, 2), ("50%", 2), (10, 4)])
def test_no_more_pulls_at_once_than_allowed(limit: int | str, starts: int) -> None:
    servers = [server(f"a-{index}") for index in range(4)]
    made = plan({**WANT, "rollout": {"maxParallel": limit}}, *servers)
    assert len(made.start) == starts


def test_servers_are_finished_rather_than_many_begun() -> None:
    spec = {"models": [{"name": LLAMA}, {"name": "tiny"}], "rollout": {"maxParallel": 1}}
    begun = server("a-1", probe=probe(llama3_1__8b=DIGEST))
    made = plan(spec, server("a-0"), begun)
    assert [(order.server, order.model) for order in made.start] == [("a-1", "tiny:latest")]


def test_a_missing_model_gives_way_to_its_first_fallback() -> None:
    spec = {"models": [{"name": "gpt-oss:7b", "fallbacks": ["gpt-oss:3b", LLAMA]}]}
    missing = {name: RegistryFact(missing=True) for name in ("gpt-oss:7b", "gpt-oss:3b")}
    made = plan(spec, server(), registry={**REGISTRY, **missing})
    assert [order.model for order in made.start] == [LLAMA]
    assert "fallback of gpt-oss:7b" in made.plan.notes[-1].message


def test_a_pull_that_is_no_longer_wanted_is_not_kept() -> None:
    running = {TASK: Running(), "other": Running()}
    assert plan(WANT, server(), running=running).keep == {TASK}
    assert plan({**WANT, "suspend": True}, server(), running=running).keep == frozenset()


@pytest.mark.parametrize(("places", "starts"), [(None, 3), (3, 3), (1, 1), (0, 0)])
def test_what_the_operator_has_no_place_for_says_so(places: int | None, starts: int) -> None:
    servers = [server(f"a-{index}") for index in range(4)]
    wanted = resource("ModelDistribution", "md", {**WANT, "rollout": {"maxParallel": 3}})
    asked: list[int] = []

    def granted(more: int) -> int:
        asked.append(more)
        return more if places is None else min(more, places)

    made = plan_distribution(wanted, servers, True, seen(), NOW, places=granted)
    assert asked == [3]
    assert len(made.start) == starts
    held = [t for t in made.plan.status["tasks"] if t["reason"] == "OperatorLimit"]
    assert len(held) == 3 - starts
    assert all("--max-parallel-pulls" in task["message"] for task in held)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.REGISTRY_UNAUTHORIZED, "needs no credentials"),
        (Reason.RATE_LIMITED, "a registry of your own"),
        (Reason.REGISTRY_UNREACHABLE, "Check the network"),
    ],
)
def test_a_registry_that_gives_nothing_is_told_with_the_remedy(reason: Reason, words: str) -> None:
    made = plan(WANT, server(), registry={LLAMA: RegistryFact(error="no", reason=reason)})
    assert condition(made, "Stalled") == ("True", str(reason))
    message = made.plan.status["conditions"][0]["message"]
    assert words in message
    assert message.endswith("it is tried again by itself.")


def test_all_installed_is_ready_and_a_second_look_changes_nothing() -> None:
    done = server(probe=probe(llama3_1__8b=DIGEST))
    made = plan(WANT, done)
    assert condition(made, "Ready") == ("True", "Ready")
    assert made.plan.status["progress"]["percent"] == "100%"
    again = plan(WANT, done, status=made.plan.status)
    assert again.plan.status == made.plan.status
    assert again.plan.notes == ()


def test_the_end_of_a_pull_is_told_once() -> None:
    pulling = plan(WANT, server(), running={TASK: Running(completed=GIB, total=5 * GIB)})
    done = plan(WANT, server(probe=probe(llama3_1__8b=DIGEST)), status=pulling.plan.status)
    assert "PullCompleted" in [note.reason for note in done.plan.notes]


def test_progress_adds_up_over_tasks() -> None:
    made = plan(
        {**WANT, "rollout": {"maxParallel": 2}},
        server("a-0"),
        server("a-1", probe=probe(llama3_1__8b=DIGEST)),
        running={TASK: Running(completed=GIB, total=5 * GIB, speed=GIB, eta=4.0)},
    )
    progress = made.plan.status["progress"]
    assert progress["percent"] == "60%"
    assert progress["eta"] == "4s"
    assert made.plan.status["summary"]["installed"] == 1


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ({}, ["a-0", "b-0"]),
        ({"ollamaNodes": ["b"]}, ["b-0"]),
        ({"selector": {"matchLabels": {"tier": "gold"}}}, ["a-0"]),
        ({"servers": ["b-0"]}, ["b-0"]),
        ({"servers": ["b-0"], "ollamaNodes": ["a"]}, []),
    ],
)
def test_targets(target: Object, names: list[str]) -> None:
    servers = [
        server("a-0", labels={"tier": "gold"}),
        server("b-0", ollamanode="b"),
    ]
    assert [one.name for one in targeted(Target.model_validate(target), servers)] == names


def test_a_target_that_means_no_ollamanode_waits_on_the_user() -> None:
    made = plan_distribution(resource("ModelDistribution", "md", WANT), [], False, seen(), NOW)
    assert condition(made, "Stalled") == ("True", "NoServers")
    made = plan_distribution(resource("ModelDistribution", "md", WANT), [], True, seen(), NOW)
    assert condition(made, "Reconciling") == ("True", "Progressing")


def test_only_fifty_tasks_are_shown_and_the_rest_counted() -> None:
    made = plan(WANT, *(server(f"a-{index}") for index in range(60)))
    assert len(made.plan.status["tasks"]) == 50
    assert made.plan.status["tasksOmitted"] == 10
    assert made.plan.status["summary"]["desired"] == 60


@pytest.mark.parametrize("memory", [None, 24])
def test_servers_that_start_are_not_done(memory: int | None) -> None:
    starting = server(memory=memory, state="Starting", url=None, probe=Probe())
    made = plan(TIERS, starting)
    assert condition(made, "Ready") == ("False", "Progressing")
    assert condition(made, "Reconciling")[0] == "True"


def test_the_passing_of_time_changes_no_status() -> None:
    failures = {TASK: Failure(NOW, 1, Reason.PULL_FAILED, "no space.")}
    first = plan(WANT, server(), failures=failures).plan.status
    wanted = resource("ModelDistribution", "md", WANT, status=first)
    later = NOW + timedelta(seconds=7)
    made = plan_distribution(wanted, [server()], True, seen(failures=failures), later)
    assert made.plan.status == first
