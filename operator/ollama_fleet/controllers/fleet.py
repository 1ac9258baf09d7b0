"""The servers of a namespace, read from the store and the probes."""

from pydantic import ValidationError

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.servers import OLLAMANODE_LABEL
from ollama_fleet.controllers.context import Context
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import (
    NODE,
    OLLAMA_NODE,
    POD,
    RESOURCE_CLAIM,
    RESOURCE_CLAIM_TEMPLATE,
    RESOURCE_SLICE,
)
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.servers import Server, servers_of


def pods_of(context: Context, namespace: str, name: str) -> list[Object]:
    """The pods of an OllamaNode."""
    return context.store.list(POD, namespace, {OLLAMANODE_LABEL: name})


def rivals_of(context: Context, pods: list[Object]) -> list[Object]:
    """The pods of other OllamaNodes, of any namespace, where one of these waits for a place."""
    if all(pod["spec"].get("nodeName") for pod in pods):
        return []
    own = {pod["metadata"]["uid"] for pod in pods}
    return [pod for pod in context.store.list(POD) if pod["metadata"]["uid"] not in own]


def machines(context: Context) -> dict[str, Object]:
    """The Kubernetes nodes, by name."""
    return {one["metadata"]["name"]: one for one in context.store.list(NODE)}


def devices(context: Context) -> Devices:
    """The GPUs that drivers publish, and the claims of servers."""
    store = context.store
    refused = store.unread.get(RESOURCE_CLAIM_TEMPLATE) or store.unread.get(RESOURCE_CLAIM)
    return Devices.read(store.list(RESOURCE_SLICE), store.list(RESOURCE_CLAIM), refused)


def servers_in(context: Context, probes: Probes, namespace: str) -> list[Server]:
    """Every server of a namespace; OllamaNodes that cannot be read have none."""
    kubernetes_nodes, known = machines(context), devices(context)
    servers: list[Server] = []
    for node in context.store.list(OLLAMA_NODE, namespace):
        try:
            spec = OllamaNodeSpec.model_validate(node["spec"])
        except ValidationError:
            continue
        seen = probes.seen(f"{namespace}/{node['metadata']['name']}")
        servers += servers_of(
            node,
            spec,
            pods_of(context, namespace, node["metadata"]["name"]),
            kubernetes_nodes,
            seen,
            context.clock.now(),
            devices=known,
        )
    return servers
