"""How servers and the objects around them are named and labelled."""

from collections.abc import Container, Mapping

from ollama_fleet.api.model import LABEL_PREFIX, LabelSelector

OLLAMANODE_LABEL = LABEL_PREFIX + "ollamanode"
ROUTER_LABEL = LABEL_PREFIX + "router"
MODELDISTRIBUTION_LABEL = LABEL_PREFIX + "modeldistribution"
DRAINING_LABEL = LABEL_PREFIX + "draining"
MANAGED_BY = "ollama-fleet"


def server_name(
    ollamanode: str, pod: str | None, kubernetes_node: str | None, per_node: bool
) -> str:
    """The name people know a server by.

    A StatefulSet's pod keeps its name (``a100-0``); a DaemonSet's pod has a random one, so the
    machine names it (``fleet-gpu-24g``); an external server is its OllamaNode.
    """
    if pod is None:
        return ollamanode
    if per_node and kubernetes_node:
        return f"{ollamanode}-{kubernetes_node}"
    return pod


def is_meant(
    ollama_nodes: Container[str] | None,
    selector: LabelSelector | None,
    name: str,
    labels: Mapping[str, str],
) -> bool:
    """Whether a target or selection means the OllamaNode of that name and those labels.

    Each restriction that is given must hold.
    """
    return matches(ollama_nodes, selector.match_labels if selector else {}, name, labels)


def matches(
    ollama_nodes: Container[str] | None,
    match_labels: Mapping[str, str],
    name: str,
    labels: Mapping[str, str],
) -> bool:
    """The same of a selection as it is written."""
    named = ollama_nodes is None or name in ollama_nodes
    return named and match_labels.items() <= labels.items()


def labels(kind_label: str, owner: str, program: str) -> dict[str, str]:
    """The labels on everything made for ``owner``; ``program`` is ollama or ollama-fleet-router."""
    return {
        "app.kubernetes.io/name": program,
        "app.kubernetes.io/instance": owner,
        "app.kubernetes.io/managed-by": MANAGED_BY,
        kind_label: owner,
    }


def selector(kind_label: str, owner: str) -> dict[str, str]:
    """The labels that select the pods of ``owner``."""
    return {kind_label: owner}
