"""Models that were in memory when their server went away, and are to be there again."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.memory import Memory
from ollama_fleet.plan.observed import Observed, wanted
from ollama_fleet.plan.result import LoadOrder, Object
from ollama_fleet.plan.servers import Server

_SHOWN = 64


def restoring(
    before: Mapping[str, Any], server: Server, named: Collection[str] | None
) -> tuple[str, ...]:
    """The models that a server still has to load, to be as it was.

    ``before`` is its entry in the last status, ``named`` are the models that ModelDistributions
    want there (None: not known). A model that is not installed is waited for as long as somebody
    is to install it.
    """
    had = set(before.get("restoring") or ())
    moved = before.get("address") not in (None, server.url)
    if not server.up or moved:
        had |= set(before.get("resident") or ())
    if server.up:
        had -= set(server.probe.resident)
        if named is not None:
            had = {one for one in had if one in server.probe.installed or one in named}
    return tuple(sorted(had)[:_SHOWN])


def absent(
    node: Object,
    spec: OllamaNodeSpec,
    observed: Observed,
    before: Mapping[str, Mapping[str, Any]],
    servers: Collection[Server],
) -> list[Server]:
    """The servers that have no pod at the moment, but are to have one."""
    if observed.workload is None or spec.external is not None:
        return []
    meta = node["metadata"]
    names = {server.name for server in servers}
    if spec.per_node is None:
        expected = [f"{meta['name']}-{ordinal}" for ordinal in range(spec.replicas or 0)]
    else:
        expected = [
            name
            for name, one in before.items()
            if (one.get("restoring") or one.get("resident"))
            and one.get("kubernetesNode") in observed.kubernetes_nodes
        ]
    missing = [name for name in expected if name not in names]
    room = max(0, wanted(spec, observed.workload) - len(servers))
    return [
        Server(
            name=name,
            ollamanode=meta["name"],
            labels=meta.get("labels") or {},
            state="Starting",
            memory=Memory(None, "unknown: it has no pod yet"),
            kubernetes_node=before.get(name, {}).get("kubernetesNode"),
        )
        for name in missing[:room]
    ]


def loads(servers: Iterable[Server]) -> tuple[LoadOrder, ...]:
    """What to load now."""
    return tuple(
        LoadOrder(server.name, server.url, model)
        for server in servers
        if server.url is not None and server.up
        for model in server.restoring
        if model in server.probe.installed
    )
