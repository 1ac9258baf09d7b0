from __future__ import annotations

import pytest

from ollama_fleet.api.servers import (
    DRAINING_LABEL,
    OLLAMANODE_LABEL,
    ROUTER_LABEL,
    labels,
    selector,
    server_name,
)


@pytest.mark.parametrize(
    ("pod", "machine", "per_node", "name"),
    [
        pytest.param("a100-0", "gpu-1", False, "a100-0", id="a StatefulSet's pod"),
        pytest.param("a100-x7k2p", "gpu-1", True, "a100-gpu-1", id="a DaemonSet's pod"),
        pytest.param("a100-x7k2p", None, True, "a100-x7k2p", id="a pod without a machine yet"),
        pytest.param(None, None, False, "a100", id="a server elsewhere"),
    ],
)
def test_server_name(pod: str | None, machine: str | None, per_node: bool, name: str) -> None:
    assert server_name("a100", pod, machine, per_node) == name


def test_what_selects_pods_is_on_them() -> None:
    made = labels(OLLAMANODE_LABEL, "a100", "ollama")
    assert selector(OLLAMANODE_LABEL, "a100").items() <= made.items()
    assert made["app.kubernetes.io/instance"] == "a100"
    assert made["app.kubernetes.io/name"] == "ollama"
    assert made["app.kubernetes.io/managed-by"] == "ollama-fleet"


def test_the_kinds_have_labels_of_their_own() -> None:
    assert len({OLLAMANODE_LABEL, ROUTER_LABEL, DRAINING_LABEL}) == 3
