"""Whom a change concerns: from any watched object to the keys to reconcile."""

from collections.abc import Iterable

from ollama_fleet.api.conditions import Reason
from ollama_fleet.controllers.loop import Key
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Object, kind_of
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
        others = _keys(store.list(ROUTER, namespace)) | _keys(
            store.list(MODEL_DISTRIBUTION, namespace)
        )
        return others | _waiting_for_a_store(store) | {_key(obj)}
    if kind == MODEL_DISTRIBUTION:
        # Pruning asks what the others want, and servers keep what is pinned and preloaded, so a
        # new specification concerns them too.
        if before is not None and _generation(before) == _generation(obj):
            return {_key(obj)}
        others = _keys(store.list(MODEL_DISTRIBUTION, namespace))
        return others | _keys(store.list(OLLAMA_NODE, namespace)) | {_key(obj)}
    if kind == ROUTER:
        return {_key(obj)}
    keys = _owners(obj)
    if kind == POD and any(key.kind == OLLAMA_NODE for key in keys):
        keys |= _keys(store.list(MODEL_DISTRIBUTION, namespace))
    if keys and kind in (POD, STATEFUL_SET, DAEMON_SET):
        keys |= _waiting_for_a_store(store)
    return keys


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
