"""Three lives: of an OllamaNode, a ModelDistribution and a Router, from beginning to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ollama_fleet.kube.kinds import (
    INGRESS,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    POD,
    ROUTER,
    Kind,
    Object,
)
from tests.cluster.fleet import LARGE, SMALL, distribution, ollama_node, router, standing
from tests.faults.ledger import Ledger

TINY = "all-minilm"


@dataclass(frozen=True)
class Step:
    """What the user applies (or deletes: kind and name), and when a clean run is done with it."""

    name: str
    apply: tuple[Object, ...] = ()
    delete: tuple[tuple[str, str], ...] = ()
    done: Callable[[Ledger, str], bool] = lambda ledger, namespace: True


@dataclass(frozen=True)
class Scenario:
    """`before` is there, and at rest, when the run begins."""

    name: str
    steps: tuple[Step, ...]
    before: tuple[Object, ...] = ()


def ready(*names: tuple[str, str]) -> Callable[[Ledger, str], bool]:
    """Whether all of these resources are Ready, and no pod is on its way out."""

    def check(ledger: Ledger, namespace: str) -> bool:
        for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER):
            for name in (name for plural, name in names if plural == kind.plural):
                obj = ledger.get(namespace, kind, name)
                now = standing(obj) if obj else None
                if now is None or not now.ready:
                    return False
        return all(_settled(pod) for pod in ledger.objects(namespace, POD))

    return check


def _settled(pod: Object) -> bool:
    conditions = pod["status"].get("conditions") or ()
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return is_ready and "deletionTimestamp" not in pod["metadata"]


def cordoned(ledger: Ledger, namespace: str) -> bool:
    """Whether the OllamaNode says that it is."""
    now = standing(ledger.get(namespace, OLLAMA_NODE, "a") or {"metadata": {"generation": 0}})
    return now is not None and now.reason == "Cordoned"


def gone(kind: Kind, name: str) -> Callable[[Ledger, str], bool]:
    """Whether an object is gone with all that was made for it, and no pod is on its way out.

    What a ModelDistribution has on record of what it pulled outlives it.
    """
    label = {f"ollamafleet.dev/{kind.kind.lower()}": name}

    def check(ledger: Ledger, namespace: str) -> bool:
        made = () if kind == MODEL_DISTRIBUTION else ledger.labelled(namespace, label)
        left = ledger.get(namespace, kind, name) or made
        return not left and all(_settled(pod) for pod in ledger.objects(namespace, POD))

    return check


def closed(ledger: Ledger, namespace: str) -> bool:
    """Whether the Router is Ready, and has no Ingress."""
    return not ledger.objects(namespace, INGRESS) and ready(CHAT)(ledger, namespace)


NODE = (OLLAMA_NODE.plural, "a")
MODELS = (MODEL_DISTRIBUTION.plural, "m")
CHAT = (ROUTER.plural, "chat")
_CHANGED: Object = {"server_env": {"OLLAMA_DEBUG": "1"}}
_OWN: Object = {"service": {"type": "ClusterIP"}}

SCENARIOS = (
    Scenario(
        "OllamaNode",
        (
            Step("made", (ollama_node(),), done=ready(NODE)),
            Step("scaled", (ollama_node(replicas=2),), done=ready(NODE)),
            Step("changed", (ollama_node(replicas=2, **_CHANGED),), done=ready(NODE)),
            Step(
                "cordoned",
                (ollama_node(replicas=2, cordoned=True, **_CHANGED),),
                done=cordoned,
            ),
            Step("deleted", delete=(NODE,), done=gone(OLLAMA_NODE, "a")),
        ),
    ),
    Scenario(
        "ModelDistribution",
        (
            Step("made", (distribution("m", SMALL),), done=ready(MODELS)),
            Step("added", (distribution("m", SMALL, LARGE),), done=ready(MODELS)),
            Step(
                "replaced",
                (distribution("m", SMALL, TINY, prune="Unlisted"),),
                done=ready(MODELS),
            ),
            Step("deleted", delete=(MODELS,), done=gone(MODEL_DISTRIBUTION, "m")),
        ),
        (ollama_node(replicas=2),),
    ),
    Scenario(
        "Router",
        (
            Step("made", (router(**_OWN),), done=ready(CHAT)),
            Step("changed", (router(**_OWN, replicas=2),), done=ready(CHAT)),
            Step(
                "entrance",
                (router(**_OWN, replicas=2, ingress={"host": "chat.example.com"}),),
                done=ready(CHAT),
            ),
            Step(
                "none",
                (router(**_OWN, replicas=2),),
                done=closed,
            ),
            Step("deleted", delete=(CHAT,), done=gone(ROUTER, "chat")),
        ),
        (ollama_node(),),
    ),
)
