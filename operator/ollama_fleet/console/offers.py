"""The models on offer: those built in, and those that a ConfigMap adds or replaces."""

import asyncio
from dataclasses import dataclass
from typing import Any

import yaml

from ollama_fleet.kube import Forbidden, Kube, KubeError, Object
from ollama_fleet.kube.kinds import CONFIG_MAP
from ollama_fleet.plan.catalogue import ENTRY, CatalogueError, Offer, catalogue

NAME = "ollama-fleet-catalogue"
"""The ConfigMap, in the operator's namespace."""
LONGEST = 256 * 1024
"""Characters of its entry, which is more than as many models as it may list need."""


@dataclass(frozen=True)
class Offers:
    """What is on offer. Where the ConfigMap cannot be read, that is what is built in, and
    ``problem`` says what is wrong with it, and what to write instead."""

    models: list[Offer]
    problem: str | None = None
    source: str = "built-in"
    """Where they are from."""


async def offers(kube: Kube, namespace: str, name: str = NAME) -> Offers:
    """What is on offer now. A ConfigMap that is not there is no problem; nothing is raised."""
    where = f"ConfigMap {namespace}/{name}"
    try:
        found = await kube.get(CONFIG_MAP, name, namespace)
    except Forbidden as error:
        return _without(f"{where} may not be read: {error}. Grant get on it.")
    except KubeError as error:
        return _without(f"{where} cannot be read now: {error}. It is tried again by itself.")
    # a long list takes a second to read
    return await asyncio.to_thread(offers_in, found) if found else Offers(catalogue())


def offers_in(config_map: Object) -> Offers:
    """What is on offer with what a ConfigMap says."""
    meta = config_map["metadata"]
    where = f"ConfigMap {meta.get('namespace', 'default')}/{meta['name']}"
    text = (config_map.get("data") or {}).get(ENTRY)
    if text is None:
        return _without(f"{where} has no entry {ENTRY}. Put the list of models there, as YAML.")
    try:
        return Offers(catalogue(_listed(text)), source=f"built-in, {where}")
    except CatalogueError as error:
        return _without(f"{where}: {str(error).rstrip('.')}. Correct it; none of it is offered.")


def _listed(text: str) -> Any:
    """What the YAML says, every value as the text it is written as: a name may look like a number.
    Raises CatalogueError."""
    if len(text) > LONGEST:
        raise CatalogueError(f"{ENTRY} is longer than {LONGEST // 1024} KiB")
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 -- it makes nothing but texts
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        told = ", ".join(part for part in (error.context, error.problem) if part)
        raise CatalogueError(f"{ENTRY}{line}: {told}") from None
    except yaml.YAMLError as error:
        raise CatalogueError(f"{ENTRY} is no YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise CatalogueError(f"{ENTRY} is nested too deeply") from None


def _without(problem: str) -> Offers:
    return Offers(catalogue(), problem)
