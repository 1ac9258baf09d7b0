"""One model on one server: how it stands, and what it waits for."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.disk import Store
from ollama_fleet.plan.distribution import plan_distribution
from ollama_fleet.plan.retries import JITTER, spread
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.taskreport import failures_from_status
from ollama_fleet.plan.tasks import (
    Failure,
    RegistryFact,
    Running,
)
from ollama_fleet.plan.troubles import Trouble
from tests.unit.plan.objects import DIGEST, GIB, NOW, OTHER, Object, probe, resource, server
from tests.unit.plan.planning import (
    LLAMA,
    MIRROR,
    TASK,
    WANT,
    condition,
    only_task,
    plan,
    seen,
)


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


def test_a_lost_server_goes_on_later_and_is_no_attempt() -> None:
    lost = Failure(NOW, 0, Reason.UNREACHABLE, "the server was lost: no route.", losses=1)
    spec = {**WANT, "rollout": {"retry": {"attempts": 1}}}
    task = only_task(plan(spec, server(), failures={TASK: lost}))
    assert (task["reason"], task["attempts"]) == ("BackingOff", 0)
    assert task["message"].startswith("the server was lost: no route. It goes on at 12:00:2")


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
