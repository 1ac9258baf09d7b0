from dataclasses import replace
from datetime import timedelta

import pytest

from ollama_fleet.api.quantity import short_quantity
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.servers import Probe
from tests.unit.plan.objects import NOW, Object, pod, probe, resource
from tests.unit.plan.observing import URL, conditions, observe, stateful, unscheduled


def test_a_ready_server_is_reported_with_its_memory_and_source() -> None:
    node = resource("OllamaNode", "a", {"replicas": 1})
    plan = plan_ollamanode(node, observe(stateful(), pod("a-0")), NOW)
    assert conditions(plan.status) == {
        "Ready": ("True", "Ready"),
        "Reconciling": ("False", "UpToDate"),
        "Stalled": ("False", "UpToDate"),
    }
    assert plan.status["ready"] == "1/1"
    assert plan.status["memory"] == {
        "perServer": "24Gi",
        "source": "label nvidia.com/gpu.memory",
    }
    (shown,) = plan.status["servers"]
    assert (shown["name"], shown["state"], shown["kubernetesNode"]) == ("a-0", "Ready", "gpu-a")
    assert [note.reason for note in plan.notes] == ["Ready"]


@pytest.mark.parametrize(
    ("active", "told"), [(None, None), ({}, 0), ({URL: 3}, 3), ({"http://10.0.0.2:11434": 3}, 0)]
)
def test_requests_under_way_are_told_where_routers_count_them(
    active: dict[str, int] | None, told: int | None
) -> None:
    seen = replace(observe(stateful(), pod("a-0")), active=active)
    (shown,) = plan_ollamanode(resource("OllamaNode", "a", {"replicas": 1}), seen, NOW).status[
        "servers"
    ]
    assert shown.get("activeRequests") == told


@pytest.mark.parametrize("spec", [{"replicas": 1}, {"perNode": {}}])
def test_not_ready_before_the_workload_is_seen_at_its_newest(spec: Object) -> None:
    stale = {
        "spec": {},
        "metadata": {"generation": 2},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "desiredNumberScheduled": 0},
    }
    plan = plan_ollamanode(resource("OllamaNode", "a", spec), observe(stale, pod("a-0")), NOW)
    assert conditions(plan.status)["Ready"] == ("False", "Progressing")
    assert conditions(plan.status)["Stalled"][0] == "False"


def test_a_second_look_at_the_same_state_changes_nothing_and_says_nothing() -> None:
    node = resource("OllamaNode", "a", {"replicas": 1})
    seen = observe(stateful(), pod("a-0"))
    first = plan_ollamanode(node, seen, NOW)
    later = replace(probe(), last_seen=NOW + timedelta(seconds=30))
    again = plan_ollamanode(
        {**node, "status": first.status},
        replace(seen, probes={URL: later}),
        NOW + timedelta(seconds=30),
    )
    assert again.status == first.status
    assert again.notes == ()


def test_per_node_servers_are_named_by_their_machine() -> None:
    node = resource("OllamaNode", "fleet", {"perNode": {}})
    workload = {"status": {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1}}
    plan = plan_ollamanode(node, observe(workload, pod("fleet-x7k2p")), NOW)
    assert [one["name"] for one in plan.status["servers"]] == ["fleet-gpu-a"]


def test_a_server_that_waits_for_its_machine_is_named_by_it_and_what_it_had_is_not_forgotten() -> (
    None
):
    before: Object = {"name": "fleet-gpu-a", "state": "Ready", "kubernetesNode": "gpu-a"}
    before |= {"resident": ["llama3.2:1b"], "address": URL}
    node = resource("OllamaNode", "fleet", {"perNode": {}}, status={"servers": [before]})
    workload = {"status": {"desiredNumberScheduled": 1}}
    plan = plan_ollamanode(node, observe(workload, unscheduled("", "gpu-a", "fleet-x7k2p")), NOW)
    (told,) = plan.status["servers"]
    assert (told["name"], told["restoring"]) == ("fleet-gpu-a", ["llama3.2:1b"])


@pytest.mark.parametrize(
    ("seen", "state", "stalled"),
    [
        (probe(), "Ready", False),
        (Probe(error="http://x refuses"), "Offline", True),
        (replace(probe(), error="slow", last_seen=NOW - timedelta(seconds=59)), "Ready", False),
        (replace(probe(), error="slow", last_seen=NOW - timedelta(seconds=61)), "Offline", True),
        # the clock was set back since
        (replace(probe(), error="slow", last_seen=NOW + timedelta(hours=1)), "Offline", True),
        (replace(probe(), last_seen=NOW + timedelta(hours=1)), "Ready", False),
        # or set forward
        (replace(probe(), last_seen=NOW - timedelta(hours=1)), "Ready", False),
        (Probe(), "Starting", False),
    ],
)
def test_an_external_server_is_offline_a_minute_after_its_last_word(
    seen: Probe, state: str, stalled: bool
) -> None:
    node = resource("OllamaNode", "box", {"external": {"url": "http://box:11434/"}})
    plan = plan_ollamanode(node, Observed(None, (), {}, {"http://box:11434": seen}), NOW)
    assert plan.apply == ()
    assert plan.status["servers"][0]["state"] == state
    assert (conditions(plan.status)["Stalled"][0] == "True") is stalled


def test_servers_of_a_daemon_set_that_nobody_has_counted_are_counted() -> None:
    made = pod("every-1")
    made["metadata"]["labels"] = {}
    daemon = {"kind": "DaemonSet", "metadata": {"generation": 1}, "spec": {}, "status": {}}
    node = resource("OllamaNode", "every", {"perNode": {}})
    plan = plan_ollamanode(node, observe(daemon, made), NOW)
    assert "of 0" not in plan.status["conditions"][0]["message"]


def test_a_cordoned_server_drains_and_is_not_ready() -> None:
    node = resource("OllamaNode", "a", {"replicas": 1, "cordoned": True})
    plan = plan_ollamanode(node, observe(stateful(), pod("a-0")), NOW)
    assert plan.status["servers"][0]["state"] == "Draining"
    assert conditions(plan.status)["Ready"] == ("False", "Cordoned")


@pytest.mark.parametrize(
    ("size", "text"),
    [(24 * 2**30, "24Gi"), (0, "0"), (15_360 * 2**20, "15Gi"), (24_564 * 2**20, "24564Mi")],
)
def test_quantities_are_short(size: int, text: str) -> None:
    assert short_quantity(size) == text
