"""The lives that are tried: of each kind, and of each sort of servers, from beginning to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ollama_fleet.kube.kinds import (
    INGRESS,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    ROUTER,
    Kind,
    Object,
    kind_of,
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
        pods = ledger.objects(namespace, POD)
        return all(_settled(pod) for pod in pods) and _counted(ledger, namespace)

    return check


def _counted(ledger: Ledger, namespace: str) -> bool:
    """Whether OllamaNodes tell what is under way where there are routers to ask, and only there."""
    routed = bool(ledger.objects(namespace, ROUTER))
    return all(
        ("activeRequests" in server) == routed
        for node in ledger.objects(namespace, OLLAMA_NODE)
        for server in (node.get("status") or {}).get("servers") or ()
    )


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

    What a ModelDistribution has on record of what it pulled outlives it, and so do volumes.
    """
    label = {f"ollamafleet.dev/{kind.kind.lower()}": name}

    def check(ledger: Ledger, namespace: str) -> bool:
        made = () if kind == MODEL_DISTRIBUTION else ledger.labelled(namespace, label)
        left = ledger.get(namespace, kind, name) or [one for one in made if _goes(one)]
        pods = ledger.objects(namespace, POD)
        return not left and all(_settled(pod) for pod in pods) and _counted(ledger, namespace)

    return check


def _goes(obj: Object) -> bool:
    return kind_of(obj) != PERSISTENT_VOLUME_CLAIM


def closed(ledger: Ledger, namespace: str) -> bool:
    """Whether the Router is Ready, and has no Ingress."""
    return not ledger.objects(namespace, INGRESS) and ready(CHAT)(ledger, namespace)


def secret(name: str, **entries: str) -> Object:
    """One with these entries."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": entries,
    }


def keys(key: str) -> str:
    """The entry of a client's key."""
    return json.dumps({"sha256": sha256(key.encode()).hexdigest()})


def volumes(replicas: int, size: str = "1Gi") -> Object:
    """Servers that keep their models in volumes."""
    return ollama_node(replicas=replicas, storage={"size": size})


def every(**more: Any) -> Object:
    """A server on every machine."""
    return ollama_node(perNode={}, **more)


def asking(name: str, backend: str) -> Object:
    """A Router that asks for keys, and shows a server elsewhere one."""
    elsewhere = {"url": "http://127.0.0.1:9", "headersSecretRef": {"name": backend}}
    return router(**_OWN, auth={"keysSecretRef": {"name": name}}, backends=[elsewhere])


NODE = (OLLAMA_NODE.plural, "a")
MODELS = (MODEL_DISTRIBUTION.plural, "m")
CHAT = (ROUTER.plural, "chat")
_CHANGED: Object = {"server_env": {"OLLAMA_DEBUG": "1"}}
_ONE_MACHINE: Object = {"nodeSelector": {"kubernetes.io/hostname": "gpu-24g"}}
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
    Scenario(
        "OllamaNode with volumes",
        (
            Step("made", (volumes(2), distribution("m", SMALL)), done=ready(NODE, MODELS)),
            Step("shrunk", (volumes(1),), done=ready(NODE, MODELS)),
            Step("grown", (volumes(2, "2Gi"),), done=ready(NODE, MODELS)),
            Step("deleted", delete=(NODE,), done=gone(OLLAMA_NODE, "a")),
        ),
    ),
    Scenario(
        "OllamaNode perNode",
        (
            Step("made", (every(),), done=ready(NODE)),
            Step("changed", (every(**_CHANGED),), done=ready(NODE)),
            Step("fewer", (every(template=_ONE_MACHINE, **_CHANGED),), done=ready(NODE)),
            Step("deleted", delete=(NODE,), done=gone(OLLAMA_NODE, "a")),
        ),
    ),
    Scenario(
        "Router with Secrets",
        (
            Step("made", (asking("keys", "backend"),), done=ready(CHAT)),
            Step("others", (asking("keys-b", "backend-b"),), done=ready(CHAT)),
            Step("none", (router(**_OWN),), done=ready(CHAT)),
            Step("deleted", delete=(CHAT,), done=gone(ROUTER, "chat")),
        ),
        (
            ollama_node(),
            secret("keys", client=keys("one")),
            secret("keys-b", client=keys("two")),
            secret("backend", Authorization="Bearer one"),
            secret("backend-b", Authorization="Bearer two"),
        ),
    ),
)
