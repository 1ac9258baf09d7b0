from typing import Any

import pytest

from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.pods import label_of, of


def pod(name: str, owner: str = "StatefulSet", **labels: str) -> dict[str, Any]:
    made = {f"ollamafleet.dev/{kind}": value for kind, value in labels.items()}
    return {
        "metadata": {"name": name, "labels": made, "ownerReferences": [{"kind": owner}]},
        "spec": {"nodeName": "gpu-24g"},
    }


PODS = [
    pod("a100-0", ollamanode="a100"),
    pod("a100-1", ollamanode="a100"),
    pod("fleet-x7v2p", "DaemonSet", ollamanode="fleet"),
    pod("chat-5f", "ReplicaSet", router="chat"),
    pod("other"),
]
NODES: list[dict[str, Any]] = [
    {"metadata": {"name": name}, "spec": {"external": {}} if name == "far" else {}}
    for name in ("a100", "fleet", "new", "far")
]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a100", ["a100-0", "a100-1"]),
        ("a100-1", ["a100-1"]),
        ("fleet-gpu-24g", ["fleet-x7v2p"]),
        ("fleet-x7v2p", ["fleet-x7v2p"]),
        ("chat", ["chat-5f"]),
    ],
)
def test_a_name_means_pods(name: str, found: list[str]) -> None:
    assert [one["metadata"]["name"] for one in of(name, PODS, NODES)] == found


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("far", "runs outside the cluster"),
        ("new", "has no pods: kubectl describe ollamanode new"),
        ("x", "called x: name one of a100, chat, far, fleet, new, or say server, router, operator"),
    ],
)
def test_a_name_without_pods_is_told(name: str, why: str) -> None:
    with pytest.raises(NotPossible, match=why):
        of(name, PODS, NODES)


def test_where_nothing_is_the_words_are_told() -> None:
    with pytest.raises(NotPossible, match="nothing here is called x: say server"):
        of("x", [], [])


def test_a_pod_is_called_by_its_server() -> None:
    assert [label_of(one) for one in PODS] == [
        "a100-0", "a100-1", "fleet-gpu-24g", "chat-5f", "other",
    ]  # fmt: skip
