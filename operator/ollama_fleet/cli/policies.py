"""What `distribute` makes: a ModelDistribution of several models, as people ask for it. No I/O."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from ollama_fleet.api.modeldistribution import DEFAULT_REGISTRY, ModelDistributionSpec, Target
from ollama_fleet.api.names import InvalidModelName, canonical
from ollama_fleet.api.servers import is_meant
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import Fleet
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION
from ollama_fleet.plan.windows import UnknownTimeZone, zone

MANAGER = "kubectl-ollama-distribute"
"""The field manager: what is no longer asked for under a name is no longer wanted."""
_LONGEST = 63


@dataclass(frozen=True)
class Asked:
    """What is asked for, as it was typed."""

    models: tuple[str, ...]
    digest: str | None = None
    window: str | None = None
    time_zone: str | None = None
    max_parallel: str | None = None
    registry: str = DEFAULT_REGISTRY
    insecure: bool = False


def spec_of(asked: Asked, target: Object) -> Object:
    """The spec that says so; NotPossible for what the API server would refuse."""
    models: list[Object] = [{"name": name} for name in names(asked.models)]
    if asked.digest is not None:
        if len(models) > 1:
            raise NotPossible("--digest is of one model: distribute that one by itself")
        models[0]["digest"] = asked.digest
    rollout: Object = {}
    if asked.max_parallel is not None:
        count = asked.max_parallel
        rollout["maxParallel"] = int(count) if count.isdecimal() else count
    if asked.window is not None:
        rollout["window"] = _window(asked.window, asked.time_zone)
    elif asked.time_zone is not None:
        raise NotPossible("--time-zone is that of --window: give both")
    spec: Object = {"models": models}
    if target:
        spec["target"] = target
    if rollout:
        spec["rollout"] = rollout
    if asked.registry != DEFAULT_REGISTRY:
        insecure = {"insecure": True} if asked.insecure else {}
        spec["source"] = {"registry": asked.registry, **insecure}
    try:
        ModelDistributionSpec.model_validate(spec)
    except ValidationError as error:
        raise NotPossible(_sentence(error)) from None
    return spec


def names(models: Sequence[str]) -> list[str]:
    """Each model once, with its tag; NotPossible for what is no model's name."""
    found: dict[str, str] = {}
    for model in models:
        try:
            name = canonical(model)
        except InvalidModelName as error:
            raise NotPossible(str(error)) from None
        found.setdefault(name.lower(), name)
    return list(found.values())


def labels_of(selectors: Sequence[str]) -> dict[str, str]:
    """Of `--selector key=value`, several times or with commas."""
    found = {}
    for text in ",".join(selectors).split(",") if selectors else ():
        key, equals, value = text.partition("=")
        if not equals or not key or "!" in key or value.startswith("="):
            raise NotPossible(f"--selector takes label=value, such as tier=gold, not {text!r}")
        found[key] = value
    return found


def target_of(to: Object, labels: Mapping[str, str], fleet: Fleet) -> Object:
    """With these labels too; NotPossible where no OllamaNode has them."""
    if not labels:
        return to
    made = {**to, "selector": {"matchLabels": dict(labels)}}
    if not meant(fleet, made).ollamanodes:
        told = ",".join(f"{key}={value}" for key, value in labels.items())
        among = f" of {', '.join(to['ollamaNodes'])}" if "ollamaNodes" in to else ""
        raise NotPossible(
            f"no OllamaNode{among} has the labels {told}: see kubectl get ollamanodes --show-labels"
        )
    return made


def meant(fleet: Fleet, target: Object) -> Fleet:
    """The OllamaNodes that a target means, with those servers alone."""
    wanted = Target.model_validate(target)
    found = []
    for node in fleet.ollamanodes:
        meta, status = node["metadata"], node.get("status") or {}
        if is_meant(wanted.ollama_nodes, wanted.selector, meta["name"], meta.get("labels") or {}):
            servers = [
                server
                for server in status.get("servers") or ()
                if wanted.servers is None or server["name"] in wanted.servers
            ]
            found.append({**node, "status": {**status, "servers": servers}})
    return replace(fleet, ollamanodes=found)


def name_for(models: Sequence[str]) -> str:
    """The ModelDistribution's name where none is given: the same for the same models."""
    text = "-".join(re.sub(r"[^a-z0-9.]+", "-", model.lower()) for model in models)
    name = re.sub(r"\W*-\W*", "-", text).strip("-.")
    if len(name) > _LONGEST:
        mark = hashlib.sha256(text.encode()).hexdigest()[:6]
        name = f"{name[: _LONGEST - 7].rstrip('-.')}-{mark}"
    return name


def distribution(name: str, namespace: str, spec: Object) -> Object:
    """What is applied."""
    return {
        "apiVersion": MODEL_DISTRIBUTION.api_version,
        "kind": MODEL_DISTRIBUTION.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def refusal(existing: Object) -> str | None:
    """Why one that exists is not to be replaced."""
    managers = existing["metadata"].get("managedFields") or ()
    if any(one.get("manager") == MANAGER for one in managers):
        return None
    name = existing["metadata"]["name"]
    return (
        f"ModelDistribution {name} is there already, and distribute did not make it: choose "
        f"another --name, or change that one with kubectl edit modeldistribution {name}"
    )


def _window(text: str, time_zone: str | None) -> Object:
    start, dash, end = (part.strip() for part in text.partition("-"))
    if not dash:
        raise NotPossible("--window takes hours as START-END, such as 02:00-06:00")
    if start == end:
        raise NotPossible("--window starts when it ends: for all day, leave it out")
    made = {"start": start, "end": end}
    if time_zone is not None:
        try:
            zone(time_zone)
        except UnknownTimeZone as error:
            raise NotPossible(str(error)) from None
        made["timeZone"] = time_zone
    return made


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, with the field it is in."""
    first = error.errors()[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    what = str((first.get("ctx") or {}).get("error") or first["msg"])
    return f"spec{where}: {what}"
