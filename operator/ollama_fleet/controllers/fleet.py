"""The servers of a namespace, and what is around them, read from the store and the probes."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from ollama_fleet.api.servers import OLLAMANODE_LABEL
from ollama_fleet.controllers.context import Context
from ollama_fleet.kube import Kind, Object
from ollama_fleet.kube.kinds import (
    CONFIG_MAP,
    DAEMON_SET,
    NODE,
    OLLAMA_NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    RESOURCE_CLAIM,
    RESOURCE_CLAIM_TEMPLATE,
    RESOURCE_SLICE,
    STATEFUL_SET,
    STORAGE_CLASS,
)
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.machines import offers_less
from ollama_fleet.plan.manifest import name_of
from ollama_fleet.plan.result import part
from ollama_fleet.plan.servers import pod_ready
from ollama_fleet.plan.stores import Neighbour, store_of, templates
from ollama_fleet.plan.volumes import Volumes, by_name, uses


def pods_of(context: Context, namespace: str, name: str) -> list[Object]:
    """The pods of an OllamaNode."""
    return context.store.list(POD, namespace, {OLLAMANODE_LABEL: name})


def rivals_of(
    context: Context, pods: list[Object], kubernetes_nodes: Mapping[str, Object], resource: str
) -> list[Object]:
    """The pods of other OllamaNodes, of any namespace, where one of these waits for a place, or
    is on a machine that offers less of ``resource`` than it has."""
    places = {pod["spec"].get("nodeName") or "" for pod in pods}
    if not any(not place or offers_less(kubernetes_nodes.get(place), resource) for place in places):
        return []
    own = {pod["metadata"]["uid"] for pod in pods}
    return [pod for pod in context.store.list(POD) if pod["metadata"]["uid"] not in own]


def workload_of(context: Context, node: Object) -> Object | None:
    """The StatefulSet or DaemonSet of an OllamaNode, where there is one."""
    meta, spec = node["metadata"], node["spec"]
    if spec.get("external") is not None:
        return None
    return context.store.get(_workload_kind(spec), meta["namespace"], meta["name"])


async def find_workload(context: Context, node: Object, pods: list[Object]) -> None:
    """Look for a workload that should be there, as there are pods: it may have lost the label
    it is watched by."""
    if not pods or workload_of(context, node) is not None or "external" in node["spec"]:
        return
    meta = node["metadata"]
    kind = _workload_kind(node["spec"])
    if found := await context.kube.get(kind, meta["name"], meta["namespace"]):
        context.store.put(found)


def _workload_kind(spec: Object) -> Kind:
    return DAEMON_SET if spec.get("perNode") is not None else STATEFUL_SET


async def named_claim(context: Context, node: Object, pods: list[Object]) -> Volumes:
    """The claim an OllamaNode names, and the pods of others that use it.

    Such a claim is nobody's to watch: it is asked for while a pod waits.
    """
    namespace = node["metadata"]["namespace"]
    named = (node["spec"].get("storage") or {}).get("existingClaim")
    if not named or all(pod_ready(pod) for pod in pods):
        return Volumes()
    claim = await context.kube.get(PERSISTENT_VOLUME_CLAIM, named, namespace)
    if claim is None:
        return Volumes()
    own = {pod["metadata"]["uid"] for pod in pods}
    others = (
        pod
        for pod in await context.kube.list(POD, namespace)
        if pod["metadata"]["uid"] not in own and uses(pod, named)
    )
    return Volumes({named: claim}, users=tuple(others))


def volumes_of(
    context: Context, node: Object, named: Volumes, refused: Mapping[str, str]
) -> Volumes:
    """The claims of an OllamaNode's servers, and what decides about them."""
    store, meta = context.store, node["metadata"]
    made = store.list(PERSISTENT_VOLUME_CLAIM, meta["namespace"], {OLLAMANODE_LABEL: meta["name"]})
    hidden = STORAGE_CLASS in store.unread
    return replace(
        named,
        claims={**by_name(made), **named.claims},
        classes=None if hidden else by_name(store.list(STORAGE_CLASS)),
        refused=refused,
    )


def neighbours_of(context: Context, node: Object) -> tuple[Neighbour, ...]:
    """The other OllamaNodes that could keep models where this one does."""
    store, wanted = context.store, store_of(node)
    if wanted is None:
        return ()
    namespace = None if wanted.folder is not None else wanted.namespace
    nodes = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one
        for one in store.list(OLLAMA_NODE, namespace)
        if not one["metadata"].get("deletionTimestamp")
    }
    workloads = {
        _owner(one): one
        for kind in (STATEFUL_SET, DAEMON_SET)
        for one in store.list(kind, namespace)
    }
    pods: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for pod in store.list(POD, namespace):
        pods[_owner(pod)].append(pod)
    own = (node["metadata"]["namespace"], node["metadata"]["name"])
    return tuple(
        Neighbour(*key, nodes.get(key), templates(pods.get(key, ()), workloads.get(key)))
        for key in sorted({*nodes, *workloads, *pods} - {own})
        if key[1]
    )


def machines(context: Context) -> dict[str, Object]:
    """The Kubernetes nodes, by name, with the GPUs they are believed to offer."""
    return context.offers.steady(context.store.list(NODE), context.clock.monotonic())


def devices(context: Context) -> Devices:
    """The GPUs that drivers publish, and the claims of servers."""
    store = context.store
    refused = store.unread.get(RESOURCE_CLAIM_TEMPLATE) or store.unread.get(RESOURCE_CLAIM)
    hidden = RESOURCE_SLICE in store.unread
    key = (refused, hidden, store.revision(RESOURCE_SLICE), store.revision(RESOURCE_CLAIM))
    return context.devices.of(
        key,
        lambda: Devices.read(
            store.list(RESOURCE_SLICE), store.list(RESOURCE_CLAIM), refused, hidden
        ),
    )


def shared_urls(context: Context) -> frozenset[str]:
    """URLs at which several OllamaNodes, of whatever namespaces, have a server."""
    found = Counter(
        str(part(node, "spec", "external").get("url")).rstrip("/")
        for node in context.store.list(OLLAMA_NODE)
        if part(node, "spec", "external")
    )
    return frozenset(url for url, count in found.items() if count > 1)


def manifests_of(context: Context, namespace: str, distribution: str) -> tuple[Object, ...]:
    """The ConfigMaps of a ModelDistribution's manifest, the first part first."""
    found: list[Object] = []
    while one := context.store.get(CONFIG_MAP, namespace, name_of(distribution, len(found) + 1)):
        found.append(one)
    return tuple(found)


def _owner(obj: Object) -> tuple[str, str]:
    """Namespace and name of the OllamaNode that something was made for; no name: for none."""
    meta = obj["metadata"]
    return meta["namespace"], (meta.get("labels") or {}).get(OLLAMANODE_LABEL, "")
