"""Whom a change concerns: from any watched object to the keys to reconcile."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import starmap

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.servers import matches
from ollama_fleet.controllers.loop import Key
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Kind, Object, kind_of
from ollama_fleet.kube.kinds import (
    DAEMON_SET,
    KINDS,
    MODEL_DISTRIBUTION,
    NODE,
    OLLAMA_NODE,
    POD,
    RESOURCE_SLICE,
    ROUTER,
    STATEFUL_SET,
    STORAGE_CLASS,
)

OLLAMA_NODE_LABEL = "ollamafleet.dev/ollamanode"
ROUTER_LABEL = "ollamafleet.dev/router"
MODEL_DISTRIBUTION_LABEL = "ollamafleet.dev/modeldistribution"

_OF_OTHERS = frozenset(
    ("name", "state", "kubernetesNode", "address", "memoryTotal", "diskTotal", "message")
)
"""Of a server's status, what may come of anything but its own words and its routers': of these
whoever plans with it hears at once."""
_PLANNING = (MODEL_DISTRIBUTION, ROUTER)
_RECONCILED = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)


def affected(obj: Object, before: Object | None, store: Store) -> set[Key]:
    """The keys a new, changed or deleted object concerns; `before` is what was known of it."""
    kind, meta = kind_of(obj), obj["metadata"]
    namespace = meta.get("namespace", "")
    if kind in (NODE, RESOURCE_SLICE):
        return _on_machine_change(obj, before, store)
    if kind == STORAGE_CLASS:
        return _keys(one for one in store.list(OLLAMA_NODE) if _on_claims(one))
    if kind == OLLAMA_NODE:
        return _on_ollama_node_change(obj, before, store)
    if kind == MODEL_DISTRIBUTION:
        return _on_distribution_change(obj, before, store)
    if kind == ROUTER:
        return {_key(obj)}
    keys = _owners(obj)
    if kind == POD:
        keys |= {
            other
            for key in keys
            if key.kind == OLLAMA_NODE
            for other in planning_with(store, namespace, key.name, (MODEL_DISTRIBUTION,))
        }
    if keys and kind in (POD, STATEFUL_SET, DAEMON_SET):
        keys |= _waiting_for_a_store(store)
    return keys


def planning_with(
    store: Store, namespace: str, ollamanode: str, kinds: Iterable[Kind] = _PLANNING
) -> set[Key]:
    """The ModelDistributions and Routers that mean an OllamaNode, and so plan with its servers."""
    node = store.get(OLLAMA_NODE, namespace, ollamanode)
    if node is None:
        return {key for kind in kinds for key in _keys(store.list(kind, namespace))}
    return _meaning(store, namespace, (node,), kinds)


def _on_ollama_node_change(node: Object, before: Object | None, store: Store) -> set[Key]:
    """Its status concerns those who mean it, but for what its servers say; what it is may also
    concern those who do not, as where two have the same server."""
    namespace = node["metadata"].get("namespace", "")
    others: set[Key] = set()
    if before is None or _generation(before) != _generation(node):
        others = {key for kind in _PLANNING for key in _keys(store.list(kind, namespace))}
    elif gist(before) != gist(node):
        others = _meaning(store, namespace, (node, before), _PLANNING)
    return others | _waiting_for_a_store(store) | {_key(node)}


def gist(node: Object) -> tuple[object, ...]:
    """What of an OllamaNode concerns those who plan with its servers, but for what these say."""
    meta, status = node["metadata"], node.get("status") or {}
    said = [
        {key: value for key, value in one.items() if key in _OF_OTHERS}
        for one in status.get("servers") or ()
    ]
    rest = {key: value for key, value in status.items() if key not in ("servers", "models")}
    return meta.get("labels"), meta.get("deletionTimestamp"), said, rest


def _on_distribution_change(obj: Object, before: Object | None, store: Store) -> set[Key]:
    """Pruning asks what the others want of the same servers, and servers keep what is pinned and
    preloaded, so a new specification concerns them too."""
    if before is not None and _generation(before) == _generation(obj):
        return {_key(obj)}
    namespace = obj["metadata"].get("namespace", "")
    means = [_means(one) for one in (obj, before) if one is not None]
    nodes = [
        node
        for node in store.list(OLLAMA_NODE, namespace)
        if any(mean(*_name_and_labels(node)) for mean in means)
    ]
    others = _meaning(store, namespace, nodes, (MODEL_DISTRIBUTION,))
    return others | _keys(nodes) | {_key(obj)}


def _meaning(
    store: Store, namespace: str, nodes: Iterable[Object], kinds: Iterable[Kind]
) -> set[Key]:
    """The objects of these kinds that mean any of these OllamaNodes."""
    places = [_name_and_labels(node) for node in nodes]
    return {
        _key(one)
        for kind in kinds
        for one in store.list(kind, namespace)
        if any(starmap(_means(one), places))
    }


def _means(obj: Object) -> Callable[[str, Mapping[str, str]], bool]:
    """Whether a ModelDistribution's target, or a Router's selection, means an OllamaNode."""
    spec = obj.get("spec") or {}
    target = spec.get("target" if kind_of(obj) == MODEL_DISTRIBUTION else "select") or {}
    wanted = (target.get("selector") or {}).get("matchLabels") or {}
    return partial(matches, target.get("ollamaNodes"), wanted)


def _name_and_labels(node: Object) -> tuple[str, Mapping[str, str]]:
    return node["metadata"]["name"], node["metadata"].get("labels") or {}


def _on_machine_change(machine: Object, before: Object | None, store: Store) -> set[Key]:
    """A machine's heartbeat concerns nobody; what a server could notice concerns them all.

    So it is with the GPUs its drivers publish.
    """
    if before is not None and _substance(before) == _substance(machine):
        return set()
    return _keys(
        server for server in store.list(OLLAMA_NODE) if not server.get("spec", {}).get("external")
    )


def _substance(machine: Object) -> tuple[object, ...]:
    if kind_of(machine) == RESOURCE_SLICE:
        return (machine.get("spec"), machine["metadata"].get("deletionTimestamp"))
    spec, status = machine.get("spec", {}), machine.get("status", {})
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or []}
    return (
        machine["metadata"].get("labels"),
        machine["metadata"].get("deletionTimestamp"),
        spec.get("taints"),
        spec.get("unschedulable"),
        status.get("allocatable"),
        conditions,
    )


def _on_claims(server: Object) -> bool:
    """Whether its servers' models are kept on PersistentVolumeClaims."""
    spec = server.get("spec", {})
    storage = spec.get("storage") or {}
    return "replicas" in spec and not (storage.get("hostPath") or storage.get("ephemeral"))


def _waiting_for_a_store(store: Store) -> set[Key]:
    """OllamaNodes that another one, of any namespace, keeps from their store."""
    return _keys(
        server
        for server in store.list(OLLAMA_NODE)
        for one in (server.get("status") or {}).get("conditions") or ()
        if one["type"] == "Ready" and one["reason"] == Reason.STORE_SHARED
    )


def _owners(obj: Object) -> set[Key]:
    """By our labels first (a StatefulSet's pods and volumes carry them), then by the owner."""
    meta = obj["metadata"]
    namespace, labels = meta.get("namespace", ""), meta.get("labels") or {}
    keys = {
        Key(kind, namespace, labels[label])
        for label, kind in (
            (OLLAMA_NODE_LABEL, OLLAMA_NODE),
            (ROUTER_LABEL, ROUTER),
            (MODEL_DISTRIBUTION_LABEL, MODEL_DISTRIBUTION),
        )
        if labels.get(label)
    }
    for owner in meta.get("ownerReferences") or []:
        kind = KINDS.get((owner.get("apiVersion", ""), owner.get("kind", "")))
        if owner.get("controller") and kind in _RECONCILED:
            keys.add(Key(kind, namespace, owner["name"]))
    return keys


def _key(obj: Object) -> Key:
    meta = obj["metadata"]
    return Key(kind_of(obj), meta.get("namespace", ""), meta["name"])


def _keys(objects: Iterable[Object]) -> set[Key]:
    return {_key(obj) for obj in objects}


def _generation(obj: Object) -> int:
    return int(obj["metadata"].get("generation") or 0)
