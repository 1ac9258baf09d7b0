from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.modeldistribution import ModelDistributionSpec, Target
from ollama_fleet.plan.disk import Store
from ollama_fleet.plan.distribution import plan_distribution, targeted
from ollama_fleet.plan.retries import JITTER, spread
from ollama_fleet.plan.servers import Probe, Server
from ollama_fleet.plan.tasks import (
    Failure,
    RegistryFact,
    Running,
    Seen,
    failures_from_status,
    pull_name,
    task_id,
)
from ollama_fleet.plan.troubles import Trouble
from tests.unit.plan.objects import DIGEST, GIB, NOW, OTHER, Object, probe, resource, server

LLAMA = "llama3.1:8b"
REGISTRY = {
    LLAMA: RegistryFact(DIGEST, 5 * GIB),
    "gpt-oss:20b": RegistryFact(OTHER, 13 * GIB),
    "tiny:latest": RegistryFact(DIGEST, GIB),
}
MIRROR = Mirror("mirror:5000", frozenset({"registry.ollama.ai", "hf.co", "models.lan:80"}))
WANT = {"models": [{"name": LLAMA}]}
TIERS = {
    "tiers": [
        {"minMemory": "16G", "models": [{"name": "gpt-oss:20b"}]},
        {"minMemory": "8G", "models": [{"name": LLAMA}]},
        {"minMemory": "4.5G", "models": [{"name": "tiny"}]},
    ]
}


def seen(**changes: Any) -> Seen:
    return replace(Seen(registry=REGISTRY, running={}, failures={}), **changes)


def plan(spec: Object, *servers: Server, status: Object | None = None, **changes: Any) -> Any:
    wanted = resource("ModelDistribution", "md", spec)
    if status:
        wanted["status"] = status
    return plan_distribution(wanted, servers, True, seen(**changes), NOW)


def only_task(made: Any) -> dict[str, Any]:
    (task,) = made.plan.status["tasks"]
    return dict(task)


def condition(made: Any, kind: str) -> tuple[str, str]:
    return next(
        (one["status"], one["reason"])
        for one in made.plan.status["conditions"]
        if one["type"] == kind
    )


TASK = task_id("llm", "md", "a-0", LLAMA)


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


@pytest.mark.parametrize(
    ("spec", "server_", "changes", "state", "reason"),
    [
        (WANT, server(), {}, "Pulling", "Pulling"),
        (WANT, server(probe=probe(llama3_1__8b=DIGEST)), {}, "Installed", "Installed"),
        # without a pin, what is there already is good, whatever the registry has since
        (WANT, server(probe=probe(llama3_1__8b=OTHER)), {}, "Installed", "Installed"),
        (
            {"models": [{"name": LLAMA, "digest": DIGEST}]},
            server(probe=probe(llama3_1__8b=OTHER)),
            {},
            "Pulling",
            "Pulling",
        ),
        (
            {"models": [{"name": LLAMA, "digest": OTHER}]},
            server(),
            {},
            "Failed",
            "DigestMismatch",
        ),
        (WANT, server(state="Starting"), {}, "Waiting", "ServerNotReady"),
        (WANT, server(state="Draining"), {}, "Waiting", "ServerNotReady"),
        ({**WANT, "suspend": True}, server(), {}, "Paused", "Suspended"),
        ({**WANT, "dryRun": True}, server(), {}, "Waiting", "DryRun"),
        ({**WANT, "pullPolicy": "Never"}, server(), {}, "Failed", "NotInstalled"),
        (
            WANT,
            server(),
            {"registry": {LLAMA: RegistryFact(missing=True)}},
            "Failed",
            "ModelNotFound",
        ),
        (
            WANT,
            server(),
            {"registry": {LLAMA: RegistryFact(error="no route")}},
            "Waiting",
            "RegistryUnreachable",
        ),
        (WANT, server(), {"running": {TASK: Running(completed=GIB)}}, "Pulling", "Pulling"),
        (WANT, server(), {"running": {TASK: Running("Verifying")}}, "Verifying", "Verifying"),
        (
            WANT,
            server(),
            {"failures": {TASK: Failure(NOW, 1, Reason.PULL_FAILED, "reset.")}},
            "Waiting",
            "BackingOff",
        ),
        (
            WANT,
            server(),
            {
                "failures": {
                    TASK: Failure(NOW - timedelta(seconds=26), 1, Reason.PULL_FAILED, "reset.")
                }
            },
            "Pulling",
            "Pulling",
        ),
        # the clock was set back since
        (
            WANT,
            server(),
            {
                "failures": {
                    TASK: Failure(NOW + timedelta(hours=1), 1, Reason.PULL_FAILED, "reset.")
                }
            },
            "Pulling",
            "Pulling",
        ),
        (
            WANT,
            server(),
            {"failures": {TASK: Failure(NOW, 3, Reason.PULL_FAILED, "reset.")}},
            "Failed",
            "PullFailed",
        ),
        # our own pull brought another digest than the registry promised: not good enough
        (
            WANT,
            server(probe=probe(llama3_1__8b=OTHER)),
            {"failures": {TASK: Failure(NOW, 1, Reason.DIGEST_MISMATCH, "digest.")}},
            "Waiting",
            "BackingOff",
        ),
    ],
)
def test_how_a_task_stands(
    spec: Object, server_: Server, changes: Any, state: str, reason: str
) -> None:
    made = plan(spec, server_, **changes)
    task = only_task(made)
    assert (task["state"], task["reason"]) == (state, reason)
    starts = state == "Pulling" and "running" not in changes
    assert [order.task for order in made.start] == ([TASK] if starts else [])


UNFIT = server(
    state="Unfit", trouble=Trouble(Reason.REQUIREMENTS_UNMET, "a-0 needs 80 GiB of memory, has …")
)


@pytest.mark.parametrize(
    ("server_", "changes", "state"),
    [
        (UNFIT, {}, "Misfit"),
        # what runs there is stopped
        (UNFIT, {"running": {TASK: Running(completed=GIB)}}, "Misfit"),
        # and what is there stays
        (replace(UNFIT, probe=probe(llama3_1__8b=DIGEST)), {}, "Installed"),
    ],
)
def test_nothing_is_pulled_to_an_unfit_server(server_: Server, changes: Object, state: str) -> None:
    made = plan(WANT, server_, **changes)
    task = only_task(made)
    assert task["state"] == state
    assert (made.start, made.keep) == ((), frozenset())
    if state == "Misfit":
        assert task["reason"] == "RequirementsUnmet"
        assert "needs 80 GiB" in task["message"]
        assert condition(made, "Stalled") == ("True", "RequirementsUnmet")
        assert made.plan.status["summary"]["misfit"] == 1


BLOBS = {
    LLAMA: RegistryFact(DIGEST, 5 * GIB, {"w": 4 * GIB, "t": GIB}),
    "tiny:latest": RegistryFact(OTHER, 2 * GIB, {"t": GIB, "u": GIB}),
}
TWO = {"models": [{"name": LLAMA}, {"name": "tiny"}], "rollout": {"maxParallel": 5}}


@pytest.mark.parametrize(
    ("size", "arriving", "states"),
    [
        (None, {}, ["Pulling Pulling", "Pulling Pulling"]),
        (6 * GIB, {}, ["Pulling Pulling", "Pulling Pulling"]),
        # each alone would fit, not both: the second waits and is told apart once one is under way
        (5 * GIB, {}, ["Pulling Pulling", "Waiting ParallelLimit"]),
        (5 * GIB, {"a-0": BLOBS[LLAMA].blobs}, ["Pulling Pulling", "Misfit NotEnoughDisk"]),
        (5 * GIB - 1, {}, ["Misfit NotEnoughDisk", "Pulling Pulling"]),
        (GIB, {}, ["Misfit NotEnoughDisk", "Misfit NotEnoughDisk"]),
        # on its way to another server
        (6 * GIB, {"b-0": {"x": GIB}}, ["Pulling Pulling", "Pulling Pulling"]),
        (6 * GIB, {"a-0": {"x": GIB}}, ["Pulling Pulling", "Waiting ParallelLimit"]),
    ],
)
def test_a_pull_that_has_no_room_is_not_begun(
    size: int | None, arriving: Object, states: list[str]
) -> None:
    there = server(store=Store(size, "volume v", "Grow v"))
    made = plan(TWO, there, registry=BLOBS, arriving=arriving)
    tasks = sorted(made.plan.status["tasks"], key=lambda task: str(task["model"]))
    assert [f"{task['state']} {task['reason']}" for task in tasks] == states
    begun = [task["model"] for task in tasks if task["state"] == "Pulling"]
    assert [order.model for order in made.start] == begun
    if states[0].startswith("Misfit"):
        assert condition(made, "Stalled") == ("True", "NotEnoughDisk")


def test_what_has_no_room_says_how_much_is_missing() -> None:
    held = {"t": GIB, "x": 6 * GIB}
    there = server(store=Store(10 * GIB, "volume models-a-0", "Raise spec.storage.size", held))
    made = plan(WANT, there, registry=BLOBS)
    assert only_task(made)["message"] == (
        "needs 4 GiB, free 3 GiB of 10 GiB on a-0 (volume models-a-0). Raise spec.storage.size, or "
        "delete models there."
    )
    roomy = replace(there, store=replace(there.store, size=11 * GIB))
    mended = plan(WANT, roomy, registry=BLOBS, status=made.plan.status)
    assert [order.blobs for order in mended.start] == [BLOBS[LLAMA].blobs]


def test_a_failed_pull_is_tried_again_at_a_computed_time() -> None:
    failures = {TASK: Failure(NOW, 2, Reason.PULL_FAILED, "the connection was reset.")}
    made = plan(WANT, server(), failures=failures)
    wait = 40 * (1 + JITTER * spread(TASK, 2))
    assert made.plan.requeue_after == pytest.approx(wait)
    at = f"{NOW + timedelta(seconds=wait):%H:%M:%S}"
    assert f"Attempt 3 of 3 at {at} UTC" in only_task(made)["message"]


def test_failures_outlive_the_operator_and_end_with_a_new_spec() -> None:
    failures = {TASK: Failure(NOW, 2, Reason.DIGEST_MISMATCH, "another digest.")}
    status = plan(WANT, server(), failures=failures).plan.status
    assert failures_from_status(status, generation=1) == failures
    assert failures_from_status(status, generation=2) == {}


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


NIGHT = {"start": "22:00", "end": "06:00", "timeZone": "Asia/Shanghai"}
"""Open at NOW + 2 h."""
OPENED = NOW + timedelta(hours=2)


@pytest.mark.parametrize(
    ("more", "changes", "there", "task", "reason"),
    [
        ({}, {}, server(), "Paused OutsideWindow", "OutsideWindow"),
        # what runs is stopped, unless all is there
        ({}, {"running": {TASK: Running()}}, server(), "Paused OutsideWindow", "OutsideWindow"),
        (
            {},
            {"running": {TASK: Running("Verifying")}},
            server(),
            "Verifying Verifying",
            "Progressing",
        ),
        ({}, {}, server(probe=probe(llama3_1__8b=OTHER)), "Installed Installed", "Ready"),
        ({"suspend": True}, {}, server(), "Paused Suspended", "Suspended"),
        ({"dryRun": True}, {}, server(), "Waiting DryRun", "DryRun"),
        ({"pullPolicy": "Never"}, {}, server(), "Failed NotInstalled", "NotInstalled"),
        ({}, {}, server(state="Starting"), "Waiting ServerNotReady", "Progressing"),
        (
            {},
            {"failures": {TASK: Failure(NOW, 1, Reason.PULL_FAILED, "reset.")}},
            server(),
            "Paused OutsideWindow",
            "OutsideWindow",
        ),
    ],
)
def test_nothing_is_pulled_outside_the_window(
    more: Object, changes: Object, there: Server, task: str, reason: str
) -> None:
    spec = {**WANT, "rollout": {"window": NIGHT}, **more}
    made = plan(spec, there, **changes)
    stands = only_task(made)
    assert f"{stands['state']} {stands['reason']}" == task
    assert condition(made, "Ready")[1] == reason
    assert made.start == ()
    assert made.keep == ({TASK} if task.startswith("Verifying") else frozenset())
    assert made.plan.status["nextWindow"] == "2026-03-01T14:00:00Z"
    assert made.plan.requeue_after == 2 * 3600
    if reason == "OutsideWindow":
        assert stands["message"] == "waits for the window, which opens Sun 22:00 Asia/Shanghai."
        assert condition(made, "Reconciling")[0] == "True"
    if reason == "DryRun":
        assert "would be pulled (5 GiB) from Sun 22:00 Asia/Shanghai on." in stands["message"]


def test_within_the_window_the_next_look_is_at_its_end() -> None:
    wanted = resource("ModelDistribution", "md", {**WANT, "rollout": {"window": NIGHT}})
    made = plan_distribution(wanted, [server()], True, seen(), OPENED)
    assert [order.task for order in made.start] == [TASK]
    assert "nextWindow" not in made.plan.status
    assert made.plan.requeue_after == 8 * 3600


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


def test_a_lost_server_goes_on_later_and_is_no_attempt() -> None:
    lost = Failure(NOW, 0, Reason.UNREACHABLE, "the server was lost: no route.", losses=1)
    spec = {**WANT, "rollout": {"retry": {"attempts": 1}}}
    task = only_task(plan(spec, server(), failures={TASK: lost}))
    assert (task["reason"], task["attempts"]) == ("BackingOff", 0)
    assert task["message"].startswith("the server was lost: no route. It goes on at 12:00:2")


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


@pytest.mark.parametrize(
    ("registry", "model", "name"),
    [
        ("registry.ollama.ai", LLAMA, LLAMA),
        ("models.lan:5000", LLAMA, "models.lan:5000/library/llama3.1:8b"),
        ("models.lan:5000", "hf.co/org/m:q4", "hf.co/org/m:q4"),
    ],
)
def test_another_registry_is_part_of_the_name_to_pull(registry: str, model: str, name: str) -> None:
    spec = ModelDistributionSpec.model_validate({**WANT, "source": {"registry": registry}})
    assert pull_name(spec, model) == (name, False)


@pytest.mark.parametrize(
    ("source", "model", "name"),
    [
        ({}, LLAMA, "mirror:5000/library/llama3.1:8b"),
        ({}, "HF.co/org/m:q4", "mirror:5000/HF_co___org/m:q4"),
        ({"registry": "models.lan:80"}, LLAMA, "mirror:5000/models_lan__80___library/llama3.1:8b"),
        ({"registry": "other.lan"}, LLAMA, "other.lan/library/llama3.1:8b"),
        ({}, "other.lan/org/m:q4", "other.lan/org/m:q4"),
        ({"mirror": False}, LLAMA, LLAMA),
    ],
)
def test_what_a_mirror_serves_is_pulled_from_it(source: Object, model: str, name: str) -> None:
    spec = ModelDistributionSpec.model_validate({**WANT, "source": source})
    assert pull_name(spec, model, MIRROR) == (name, name.startswith(MIRROR.address))


def test_servers_elsewhere_do_not_know_the_mirror() -> None:
    made = plan(
        {**WANT, "rollout": {"maxParallel": 2}},
        server("a-0"),
        server("box", external=True),
        mirror=MIRROR,
    )
    assert {order.server: (order.name, order.insecure) for order in made.start} == {
        "a-0": ("mirror:5000/library/llama3.1:8b", True),
        "box": (LLAMA, False),
    }


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
