"""What a plan says: objects to have, and the status to report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Object = dict[str, Any]


@dataclass(frozen=True)
class Note:
    """An Event to write, once, on a transition."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class LoadOrder:
    """A model to bring into a server's memory, or to keep there for another time.

    ``keep_alive`` is as Ollama's API takes it: seconds, a text such as 5m, below zero for ever,
    None as the server is set.
    """

    server: str
    url: str
    model: str
    keep_alive: int | str | None = None


@dataclass(frozen=True)
class Plan:
    """The outcome of planning one custom resource."""

    apply: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()
    """Objects of ours that nothing needs any more, and pods to be replaced."""
    change: tuple[Object, ...] = ()
    """Fields to set in objects that others made."""
    hasten: tuple[Object, ...] = ()
    """Pods on their way out that have nothing left to do."""
    loads: tuple[LoadOrder, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    requeue_after: float | None = None
    """Seconds until the plan would change by itself; None: only an event can change it."""


def part(obj: Object, *path: str) -> Object:
    """What an object holds there; an empty one where it holds none, as an older or weaker CRD may
    have let through."""
    found: Any = obj
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def soonest(*seconds: float | None) -> float | None:
    """The smallest, where None means never."""
    return min((one for one in seconds if one is not None), default=None)


def owner_reference(owner: Object) -> Object:
    """The reference that lets Kubernetes collect a child when its owner goes."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def child(
    owner: Object, api_version: str, kind: str, name: str, labels: Mapping[str, str]
) -> Object:
    """The head of an object owned by ``owner``, in its namespace."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(labels),
            "ownerReferences": [owner_reference(owner)],
        },
    }
