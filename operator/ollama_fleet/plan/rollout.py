"""Replacing servers whose pods are of an older template, a few at a time.

The workloads replace no pod by themselves (their update strategy is OnDelete), so that a server
goes only when the one before it is back with its models in memory.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable
from typing import Any

from ollama_fleet.api.model import LABEL_PREFIX
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.quantity import count_of
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.servers import Server

REVISION = LABEL_PREFIX + "revision"
"""Annotation of a pod: which template it was made from."""

_HOW_IT_ENDS = ("terminationGracePeriodSeconds",)


def revision(template: Object) -> str:
    """A digest of what a running server would have to be replaced for.

    How long its end may take is left out: that is no reason to end it.
    """
    pod = {key: value for key, value in template["spec"].items() if key not in _HOW_IT_ENDS}
    containers = [
        {key: value for key, value in container.items() if key != "lifecycle"}
        for container in pod["containers"]
    ]
    gist = {"metadata": template["metadata"], "spec": pod | {"containers": containers}}
    return hashlib.sha256(json.dumps(gist, sort_keys=True).encode()).hexdigest()[:10]


def current(pod: Object, workload: Object | None) -> bool:
    """Whether the pod is of the workload's newest template.

    Annotations that others add to the template count: so does ``kubectl rollout restart``.
    """
    template = ((workload or {}).get("spec") or {}).get("template") or {}
    wanted, has = _annotations(template), _annotations(pod)
    return all(has.get(name) == value for name, value in wanted.items())


def updated(spec: OllamaNodeSpec, workload: Object | None, servers: Iterable[Server]) -> int:
    """How many servers run what the newest template says; external ones have none to follow."""
    if spec.external is not None:
        return sum(server.serving for server in servers)
    return sum(
        server.pod is not None
        and not server.pod["metadata"].get("deletionTimestamp")
        and current(server.pod, workload)
        for server in servers
    )


def told(servers: Iterable[Server]) -> str:
    """What an update that rolls is at, for people: whom it waits for, and why."""
    for server in servers:
        if server.up and server.restoring:
            model = server.restoring[0]
            there = model in server.probe.installed
            return f"{server.name} {'loads' if there else 'waits for'} {model} again"
        if server.pod is not None and server.pod["metadata"].get("deletionTimestamp"):
            return f"{server.name} finishes its requests"
        if not server.up:
            return f"{server.name} is not back yet"
        if server.note is not None:
            return f"{server.name} is left alone while its {server.note}"
    return "the next server goes"


def available(server: Server) -> bool:
    """Whether a server does its part: up, with its models in memory again.

    It is so if all servers of the OllamaNode are cordoned, and not if its machine is.
    """
    return server.up and server.note is None and not server.restoring


def replaced_next(
    spec: OllamaNodeSpec,
    workload: Object | None,
    servers: Iterable[Server],
    wanted: int,
    wedged: Collection[str] = (),
) -> tuple[Object, ...]:
    """The pods to delete now, so that new ones take their place.

    Those that serve nobody go at once: they cost nothing, and may be why the rest waits. Of the
    others as many go as update.maxUnavailable leaves; first those named in ``wedged``, which are
    replaced whatever their template.
    """
    if workload is None or not seen(workload):
        return ()
    servers = list(servers)
    stale = [
        (server, server.pod)
        for server in servers
        if server.pod is not None
        and not server.pod["metadata"].get("deletionTimestamp")
        and (server.name in wedged or not current(server.pod, workload))
        # its machine takes no new pod: it would have to wait for another
        and server.note is None
    ]
    useless = [pod for server, pod in stale if not available(server)]
    serving = [(server, pod) for server, pod in stale if available(server)]
    away = wanted - sum(available(server) for server in servers)
    budget = max(0, count_of(spec.update.max_unavailable, wanted) - max(0, away))
    last_first = sorted(
        serving,
        key=lambda one: (one[0].name in wedged, _by_ordinal(one[0].name)),
        reverse=True,
    )
    return (*useless, *(pod for _, pod in last_first[:budget]))


def seen(workload: Object | None) -> bool:
    """Whether there is a workload, and its status speaks of its newest spec."""
    if workload is None:
        return False
    known = (workload.get("status") or {}).get("observedGeneration")
    return bool(known == (workload.get("metadata") or {}).get("generation"))


def _annotations(pod: Object) -> dict[str, Any]:
    return (pod.get("metadata") or {}).get("annotations") or {}


def _by_ordinal(name: str) -> list[tuple[int, str]]:
    """So that a-10 comes after a-9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
