"""Resources as people see them: what their status tells, in a few fields.

A spec that an older definition let through is shown, too: its status says what is wrong with it.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.console.wire import Distribution, Node, Router
from ollama_fleet.kube import Object
from ollama_fleet.plan.demands import models_named


def node(obj: Object) -> Node:
    """An OllamaNode."""
    status = obj.get("status") or {}
    return Node(
        **_standing(obj),
        cordoned=_spec(obj).get("cordoned") is True,
        replicas=status.get("replicas", 0),
        ready_replicas=status.get("readyReplicas", 0),
        servers_omitted=status.get("serversOmitted", 0),
    )


def distribution(obj: Object) -> Distribution:
    """A ModelDistribution."""
    status = obj.get("status") or {}
    summary: Mapping[str, int] = status.get("summary") or {}
    counts = ("desired", "installed", "pulling", "waiting", "failed", "misfit", "drifted")
    return Distribution(
        **_standing(obj),
        **{name: summary.get(name, 0) for name in counts},
        models=_models(_spec(obj)),
        suspended=_spec(obj).get("suspend") is True,
        tasks_omitted=status.get("tasksOmitted", 0),
        next_window=status.get("nextWindow"),
    )


def router(obj: Object) -> Router:
    """A Router."""
    status = obj.get("status") or {}
    servers = status.get("servers") or {}
    return Router(
        **_standing(obj),
        url=status.get("url"),
        replicas=status.get("replicas", 0),
        ready_replicas=status.get("readyReplicas", 0),
        servers_ready=servers.get("ready", 0),
        servers=servers.get("total", 0),
        models=list(status.get("models") or ()),
    )


def _spec(obj: Object) -> Mapping[str, Any]:
    return obj.get("spec") or {}


def _models(spec: Mapping[str, Any]) -> list[str]:
    try:
        return sorted(models_named(ModelDistributionSpec.model_validate(spec)))
    except ValidationError:
        return []


def _standing(obj: Object) -> dict[str, Any]:
    meta, status = obj["metadata"], obj.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    return {
        "id": f"{meta['namespace']}.{meta['name']}",
        "namespace": meta["namespace"],
        "name": meta["name"],
        "ready": ready.get("status") == "True",
        "stalled": conditions.get("Stalled", {}).get("status") == "True",
        "reason": ready.get("reason"),
        "message": ready.get("message"),
    }
