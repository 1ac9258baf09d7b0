"""What was in memory before a server went is there again after it has come back."""

from typing import Any

import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.residency import absent, loads, restoring
from ollama_fleet.plan.servers import Installed, Probe
from tests.unit.plan.objects import DIGEST, NOW, Object, machine, pod, resource, server

URL = "http://a-0:11434"
OTHER_URL = "http://b-0:11434"


def has(resident: list[str], installed: list[str]) -> Probe:
    return Probe(
        version="1",
        installed={one: Installed(DIGEST, 1) for one in {*resident, *installed}},
        resident=dict.fromkeys(resident, 1),
        last_seen=NOW,
    )


@pytest.mark.parametrize(
    ("before", "up", "resident", "installed", "named", "left"),
    [
        # all is well, or a model was idle too long
        ({"resident": ["m"], "address": URL}, True, ["m"], [], None, ()),
        ({"resident": ["m"], "address": URL}, True, [], ["m"], None, ()),
        # it goes, and stays away for a while
        ({"resident": ["m", "n"], "address": URL}, False, [], [], None, ("m", "n")),
        ({"restoring": ["m"], "address": URL}, False, [], [], None, ("m",)),
        ({"restoring": ["m"]}, False, [], [], None, ("m",)),
        # it is back: first without, then with its models
        ({"restoring": ["m", "n"], "address": URL}, True, [], ["m", "n"], None, ("m", "n")),
        ({"restoring": ["m", "n"], "address": URL}, True, ["m"], ["n"], None, ("n",)),
        ({"restoring": ["n"], "address": URL}, True, ["m"], ["n"], None, ("n",)),
        # it has moved while nobody looked
        ({"resident": ["m"], "address": OTHER_URL}, True, [], ["m"], None, ("m",)),
        # not installed: waited for if somebody wants it there, else forgotten
        ({"restoring": ["m"], "address": URL}, True, [], [], {"m"}, ("m",)),
        ({"restoring": ["m"], "address": URL}, True, [], [], set(), ()),
        ({"restoring": ["m"], "address": URL}, True, [], [], None, ("m",)),
        ({"restoring": ["m"], "address": URL}, True, [], ["m"], set(), ("m",)),
        ({}, True, ["m"], [], None, ()),
    ],
)
def test_what_is_still_to_load(
    before: Object,
    up: bool,
    resident: list[str],
    installed: list[str],
    named: Any,
    left: tuple[str, ...],
) -> None:
    one = server(pod=pod("a-0", ready=up), url=URL, probe=has(resident, installed))
    assert restoring(before, one, named) == left


def test_only_what_is_installed_on_a_server_that_is_up_is_loaded() -> None:
    up = server(pod=pod("a-0"), restoring=("m", "n"), probe=has([], ["m"]))
    away = server("a-1", pod=pod("a-1", ready=False), restoring=("m",), probe=has([], ["m"]))
    assert [(one.server, one.model) for one in loads([up, away])] == [("a-0", "m")]


def test_a_server_between_two_pods_is_not_forgotten() -> None:
    node = resource("OllamaNode", "a", {"replicas": 2})
    spec = OllamaNodeSpec.model_validate(node["spec"])
    observed = Observed({"status": {}}, (), {}, {})
    found = absent(node, spec, observed, {}, [server("a-0")])
    assert [(one.name, one.state, one.pod) for one in found] == [("a-1", "Starting", None)]
    # before there is a workload, and when others are still on their way out
    assert absent(node, spec, Observed(None, (), {}, {}), {}, []) == []
    assert absent(node, spec, observed, {}, [server("a-0"), server("a-2")]) == []


def test_a_machine_between_two_pods_is_not_forgotten_but_one_that_left_is() -> None:
    node = resource("OllamaNode", "a", {"perNode": {}})
    spec = OllamaNodeSpec.model_validate(node["spec"])
    workload = {"status": {"desiredNumberScheduled": 3}}
    observed = Observed(workload, (), {"x": machine("x"), "z": machine("z")}, {})
    before = {
        "a-x": {"kubernetesNode": "x", "restoring": ["m"]},
        "a-y": {"kubernetesNode": "y", "restoring": ["m"]},
        "a-z": {"kubernetesNode": "z", "resident": []},
    }
    found = absent(node, spec, observed, before, [server("a-w")])
    assert [(one.name, one.kubernetes_node) for one in found] == [("a-x", "x")]
