"""What only the operator can know to be wrong: said once, with the remedy, and left in peace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dev.cluster.programs import free_ports
from ollama_fleet.kube.kinds import (
    DAEMON_SET,
    DEPLOYMENT,
    MODEL_DISTRIBUTION,
    NETWORK_POLICY,
    OLLAMA_NODE,
    POD,
    ROLE_BINDING,
    ROUTER,
    SERVICE,
    STATEFUL_SET,
    Kind,
)
from tests.cluster.fleet import (
    SMALL,
    Fleet,
    distribution,
    external,
    ollama_node,
    resource,
    router,
)

MADE = (STATEFUL_SET, DAEMON_SET, DEPLOYMENT, SERVICE, ROLE_BINDING, NETWORK_POLICY, POD)


def test_a_model_that_does_not_exist(fleet: Fleet) -> None:
    fleet.apply(ollama_node(), distribution("m", "llama3.1:9b"))
    message = fleet.stalls(MODEL_DISTRIBUTION, "m", "ModelNotFound")
    assert "registry.ollama.ai has no llama3.1:9b. Correct the name or its tag." in message
    fleet.ready(OLLAMA_NODE, "a")
    fleet.rests(4)
    fleet.tells(MODEL_DISTRIBUTION, "m", "ModelNotFound")
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"models": [{"name": SMALL}]}})
    fleet.ready(MODEL_DISTRIBUTION, "m")
    assert fleet.reasons(MODEL_DISTRIBUTION, "m").count("ModelNotFound") == 1


def test_an_external_server_that_refuses(fleet: Fleet) -> None:
    (port,) = free_ports(1)
    fleet.apply(external("box", f"http://127.0.0.1:{port}"), distribution("m", SMALL), router())
    message = fleet.stalls(OLLAMA_NODE, "box", "Unreachable")
    assert f"http://127.0.0.1:{port} cannot be reached" in message
    assert "Check that Ollama runs there" in message
    fleet.ready(ROUTER, "chat")
    # it is probed every 5 s meanwhile
    fleet.rests(7)
    fleet.tells(OLLAMA_NODE, "box", "Unreachable")


def test_a_target_that_nobody_meets(fleet: Fleet) -> None:
    fleet.apply(ollama_node(), distribution("m", SMALL, target={"ollamaNodes": ["b"]}))
    message = fleet.stalls(MODEL_DISTRIBUTION, "m", "NoServers")
    assert "no OllamaNode in this namespace matches spec.target" in message
    fleet.apply(ollama_node("b"))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    assert [task["server"] for task in fleet.tasks("m")] == ["b-0"]


def test_memory_that_no_tier_is_for(fleet: Fleet) -> None:
    tiers = [{"minMemory": "16G", "models": [{"name": SMALL}]}]
    fleet.apply(ollama_node(), distribution("m", tiers=tiers))
    message = fleet.stalls(MODEL_DISTRIBUTION, "m", "NoMatchingTier")
    assert "a-0 has 8 GiB" in message
    assert "lower minMemory" in message


def test_a_spec_that_kubernetes_refuses(fleet: Fleet) -> None:
    resources = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}
    fleet.apply(ollama_node(resources=resources))
    message = fleet.stalls(OLLAMA_NODE, "a", "ApplyRefused")
    assert "StatefulSet a" in message
    assert "must be less than or equal to memory limit" in message
    fleet.rests(3)
    fleet.tells(OLLAMA_NODE, "a", "ApplyRefused")
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"resources": {"limits": {"memory": "4Gi"}}}})
    fleet.ready(OLLAMA_NODE, "a")


@contextmanager
def registry(port: int) -> Iterator[None]:
    """Another registry than the cluster's own."""
    command = [sys.executable, "-m", "dev.ollama.registry", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_registry_that_does_not_answer_is_asked_again(fleet: Fleet) -> None:
    (port,) = free_ports(1)
    source = {"registry": f"127.0.0.1:{port}", "insecure": True}
    fleet.apply(ollama_node(), distribution("m", SMALL, source=source))
    message = fleet.stalls(MODEL_DISTRIBUTION, "m", "RegistryUnreachable")
    assert f"http://127.0.0.1:{port} cannot be reached" in message
    assert "spec.source.registry" in message
    with registry(port):
        fleet.ready(MODEL_DISTRIBUTION, "m")
    (pod,) = fleet.pods("a")
    assert set(fleet.emulator(pod).installed()) == {SMALL}


def test_a_secret_that_is_missing_is_named_with_the_command_that_makes_it(fleet: Fleet) -> None:
    external = {"url": "http://127.0.0.1:1", "headersSecretRef": {"name": "box"}}
    fleet.apply(resource("OllamaNode", "box", {"external": external}))
    message = fleet.stalls(OLLAMA_NODE, "box", "SecretMissing")
    assert f"kubectl -n {fleet.namespace} create secret generic box" in message
    fleet.tells(OLLAMA_NODE, "box", "SecretMissing")


@pytest.mark.parametrize("kind", [ROUTER, MODEL_DISTRIBUTION])
def test_what_is_deleted_while_stalled_is_gone(fleet: Fleet, kind: Kind) -> None:
    stuck = router() if kind == ROUTER else distribution("chat", SMALL)
    fleet.apply(stuck)
    fleet.stalls(kind, "chat", "NoServers")
    fleet.delete(kind, "chat")
    fleet.gone(kind, "chat", within=5)


def test_what_others_made_is_left_alone(fleet: Fleet) -> None:
    ports = [{"port": 80, "targetPort": 8080}]
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat"},
        "spec": {"selector": {"app": "theirs"}, "ports": ports},
    }
    fleet.apply(ollama_node(), theirs)
    before = fleet.get(SERVICE, "chat")
    fleet.apply(router("chat"))
    message = fleet.stalls(ROUTER, "chat", "ApplyRefused")
    assert "Service chat is there already, and not of this resource. Delete that" in message
    assert fleet.get(SERVICE, "chat") == before
    fleet.apply(router("a-servers"))
    assert "Service a-servers is" in fleet.stalls(ROUTER, "a-servers", "ApplyRefused")
    fleet.ready(OLLAMA_NODE, "a")
