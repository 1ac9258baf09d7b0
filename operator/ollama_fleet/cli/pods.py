"""Whose pods are whose: what people call them by, and the pods behind that. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass

from ollama_fleet.api.servers import OLLAMANODE_LABEL, ROUTER_LABEL, server_name
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.kube import Object

CHART = "ollama-fleet"


@dataclass(frozen=True)
class Part:
    """A part of the installation: its pods' labels, and whether they are in a namespace of their
    own."""

    selector: str
    apart: bool = False


def component(name: str, program: str = CHART) -> str:
    """The labels that the chart gives a part of the installation."""
    return f"app.kubernetes.io/name={program},app.kubernetes.io/component={name}"


PARTS = {
    "server": Part(OLLAMANODE_LABEL),
    "router": Part(ROUTER_LABEL),
    "operator": Part(component("operator"), apart=True),
    "console": Part(component("console"), apart=True),
    "mirror": Part(component("mirror", f"{CHART}-mirror"), apart=True),
}
"""What logs may be asked for by word."""


def of(name: str, pods: Iterable[Object], ollamanodes: Iterable[Object]) -> list[Object]:
    """The pods of an OllamaNode, of one of its servers, or of a Router, of those in a namespace.

    NotPossible where none is called so.
    """
    pods = list(pods)
    for label in (OLLAMANODE_LABEL, ROUTER_LABEL):
        if found := [pod for pod in pods if owner(pod, label) == name]:
            return found
    if found := [pod for pod in pods if name in (pod["metadata"]["name"], server_of(pod))]:
        return found
    nodes = {one["metadata"]["name"]: one for one in ollamanodes}
    if name in nodes and "external" in nodes[name]["spec"]:
        raise NotPossible(
            f"OllamaNode {name} runs outside the cluster: its logs are on its machine"
        )
    if name in nodes:
        raise NotPossible(f"OllamaNode {name} has no pods: kubectl describe ollamanode {name}")
    known = sorted({*nodes, *(owner(pod, ROUTER_LABEL) for pod in pods)} - {""})
    raise NotPossible(
        f"no OllamaNode, server or Router is called {name}: name one of {', '.join(known)}, or "
        f"say {', '.join(PARTS)}"
        if known
        else f"nothing here is called {name}: say {', '.join(PARTS)}, or look elsewhere with -n"
    )


def owner(pod: Object, label: str) -> str:
    """The name of what a pod was made for; empty where it was not."""
    return str((pod["metadata"].get("labels") or {}).get(label, ""))


def server_of(pod: Object) -> str | None:
    """The name of the server in a pod; None where there is none in it."""
    node = owner(pod, OLLAMANODE_LABEL)
    if not node:
        return None
    kinds = {one["kind"] for one in pod["metadata"].get("ownerReferences") or ()}
    machine = pod["spec"].get("nodeName")
    return server_name(node, pod["metadata"]["name"], machine, "DaemonSet" in kinds)


def label_of(pod: Object) -> str:
    """What a pod is called where several are shown: its server's name, or its own."""
    return server_of(pod) or str(pod["metadata"]["name"])
