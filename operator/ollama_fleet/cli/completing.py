"""What the shell completes words with: models on offer, and what the cluster has, if it answers
at once."""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import chain

import click

from ollama_fleet.cli.pods import PARTS
from ollama_fleet.kube import Kind, Kube, KubeError, Object
from ollama_fleet.kube.contexts import default_namespace
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, NAMESPACE, OLLAMA_NODE, ROUTER
from ollama_fleet.plan.catalogue import catalogue

_PATIENCE = 2.0
"""Seconds, as somebody sits there and waits."""


def any_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Models on offer, and those that somebody wants here."""
    wanted = (
        task["model"]
        for one in _found(context, MODEL_DISTRIBUTION)
        for task in (one.get("status") or {}).get("tasks") or ()
    )
    return _beginning(incomplete, chain((offer.name for offer in catalogue()), wanted))


def any_node(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """OllamaNodes."""
    return _beginning(incomplete, _names(_found(context, OLLAMA_NODE)))


def any_target(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """OllamaNodes and their servers."""
    nodes = _found(context, OLLAMA_NODE)
    return _beginning(incomplete, chain(_names(nodes), _servers(nodes)))


def any_pods(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Whatever has logs."""
    nodes = _found(context, OLLAMA_NODE)
    routers = _names(_found(context, ROUTER))
    return _beginning(incomplete, chain(PARTS, _names(nodes), _servers(nodes), routers))


def any_router(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Routers."""
    return _beginning(incomplete, _names(_found(context, ROUTER)))


def any_distribution(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    """ModelDistributions."""
    return _beginning(incomplete, _names(_found(context, MODEL_DISTRIBUTION)))


def any_retried(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """ModelDistributions that gave something up, and the models of that."""
    given_up: list[str] = []
    for one in _found(context, MODEL_DISTRIBUTION):
        tasks = (one.get("status") or {}).get("tasks") or ()
        models = [task["model"] for task in tasks if task["state"] == "Failed"]
        given_up += [one["metadata"]["name"], *models] if models else []
    return _beginning(incomplete, given_up)


def any_namespace(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Namespaces."""
    return _beginning(incomplete, _names(_found(context, NAMESPACE)))


def _found(context: click.Context, kind: Kind) -> list[Object]:
    """The objects of a kind where the command would look; none where that cannot be told."""
    given = context.params

    async def listed() -> list[Object]:
        where = given.get("namespace") or default_namespace(given["kubeconfig"], given["context"])
        async with (
            asyncio.timeout(_PATIENCE),
            await Kube.connect(given["kubeconfig"], given["context"]) as kube,
        ):
            return await kube.list(kind, where if kind.namespaced else None)

    try:
        return asyncio.run(listed())
    except (KubeError, TimeoutError):
        return []


def _names(objects: Iterable[Object]) -> Iterator[str]:
    return (one["metadata"]["name"] for one in objects)


def _servers(nodes: Iterable[Object]) -> Iterator[str]:
    return (
        server["name"] for one in nodes for server in (one.get("status") or {}).get("servers") or ()
    )


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
