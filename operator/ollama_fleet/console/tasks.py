"""Tasks out of ModelDistributions, and ModelDistributions out of what is asked for."""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.api.names import InvalidModelName, canonical
from ollama_fleet.api.servers import is_meant
from ollama_fleet.console.agents import Server
from ollama_fleet.console.refusal import Refusal
from ollama_fleet.console.wire import Task, TaskStatus
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION
from ollama_fleet.plan import anew
from ollama_fleet.plan.tasks import task_id

STATUSES: Mapping[str, TaskStatus] = {
    "Waiting": "pending",
    "Paused": "pending",
    "Pulling": "downloading",
    "Verifying": "downloading",
    "Installed": "completed",
    "Failed": "failed",
    "Misfit": "failed",
}
_LONGEST = 40
_CLOUD = re.compile(r"[:-]cloud$", re.IGNORECASE)


def model_name(text: str) -> str:
    """A model's name with its tag; raises `Refusal` (400)."""
    try:
        name = canonical(text)
    except InvalidModelName as error:
        raise Refusal(400, str(error)) from None
    if _CLOUD.search(name):
        raise Refusal(400, f"{text!r} runs in a cloud and cannot be installed: name a local model")
    return name


def tasks_of(distribution: Object) -> list[Task]:
    """The tasks a ModelDistribution tells of."""
    return [_task(distribution, one) for one in (distribution.get("status") or {}).get("tasks", ())]


def promised(distribution: Object, servers: Iterable[Server]) -> list[Task]:
    """The tasks that a ModelDistribution will come to, or has without telling, as it tells of the
    first 50 only: those of the models it lists, on the servers it means. They count as waiting,
    but as completed where it says that all are."""
    meta = distribution["metadata"]
    status = distribution.get("status") or {}
    current = status.get("observedGeneration") == meta.get("generation", 1)
    if current and not status.get("tasksOmitted"):
        return []
    try:
        spec = ModelDistributionSpec.model_validate(distribution["spec"])
    except ValidationError:
        return []
    told = {one["id"] for one in status.get("tasks") or ()}
    summary = status.get("summary") or {}
    done = current and summary.get("installed") == summary.get("desired")
    found = []
    for server in targeted(spec, servers, meta["namespace"]):
        for model in spec.models or ():
            name = canonical(model.name)
            made = task_id(meta["namespace"], meta["name"], server.name, name)
            if made not in told:
                state = "Installed" if done else "Waiting"
                one = {"id": made, "server": server.name, "model": name, "state": state}
                found.append(_task(distribution, one))
    return found


def targeted(
    spec: ModelDistributionSpec, servers: Iterable[Server], namespace: str
) -> list[Server]:
    """The servers a ModelDistribution of a namespace means."""
    target = spec.target
    return [
        server
        for server in servers
        if server.namespace == namespace
        and (target.servers is None or server.name in target.servers)
        and is_meant(
            target.ollama_nodes,
            target.selector,
            server.ollamanode,
            server.node["metadata"].get("labels") or {},
        )
    ]


def _task(distribution: Object, told: Mapping[str, Any]) -> Task:
    meta = distribution["metadata"]
    created = told.get("createdAt") or meta.get("creationTimestamp") or "1970-01-01T00:00:00Z"
    # the operator has not yet seen that it is to be tried again
    state = "Waiting" if anew.begins(distribution, told) else told["state"]
    status = STATUSES[state]
    failed = told.get("error") or told.get("message") or told.get("reason") or "it failed"
    return Task(
        id=told["id"],
        agent_id=f"{meta['namespace']}.{told['server']}",
        model_name=told["model"],
        status=status,
        progress=1.0 if status == "completed" else told.get("progress") or 0.0,
        download_speed_bps=told.get("bytesPerSecond") or 0,
        created_at=created,
        updated_at=told.get("updatedAt") or created,
        error=(told.get("message") or failed) if status == "failed" else None,
        namespace=meta["namespace"],
        distribution=meta["name"],
        state=state,
        reason=told.get("reason"),
        message=told.get("message"),
        completed_bytes=told.get("completedBytes"),
        total_bytes=told.get("totalBytes"),
        digest=told.get("digest"),
        drifted=told.get("drifted", False),
        wanted_digest=told.get("wantedDigest"),
    )


def given_up(distribution: Object, task: Task) -> None:
    """Raises `Refusal` (409) unless a task of a ModelDistribution was given up, so that trying
    again is of any use."""
    if task.status != "failed":
        raise Refusal(
            409, f"task {task.id} is {task.status}: only one that was given up is tried again"
        )
    (told,) = (one for one in distribution["status"]["tasks"] if one["id"] == task.id)
    if task.state != "Failed" or not (told.get("attempts") or task.reason == "ModelNotFound"):
        raise Refusal(
            409, f"task {task.id} goes on by itself once its cause is mended: {task.error}"
        )


def wire(task: Task) -> dict[str, Any]:
    """A task as it is sent: `error` only where there is one."""
    made = task.model_dump()
    if task.error is None:
        del made["error"]
    return made


def distribution(model: str, namespace: str, servers: Sequence[str] | None) -> Object:
    """The ModelDistribution that has a model (canonical) on some servers of a namespace, or on all
    of them, those to come included. What is asked for twice is the same one."""
    names = sorted(set(servers)) if servers is not None else None
    spec: dict[str, Any] = {"models": [{"name": model}]}
    if names is not None:
        spec["target"] = {"servers": names}
    gist = sha256("\n".join([model, *(names if names is not None else ["*"])]).encode())
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower())[-_LONGEST:].strip("-") or "model"
    return {
        "apiVersion": MODEL_DISTRIBUTION.api_version,
        "kind": MODEL_DISTRIBUTION.kind,
        "metadata": {"name": f"{slug}-{gist.hexdigest()[:8]}", "namespace": namespace},
        "spec": spec,
    }


def ids_of(made: Object, servers: Iterable[str]) -> list[str]:
    """The tasks that a ModelDistribution of one model will have on those servers."""
    meta = made["metadata"]
    model = made["spec"]["models"][0]["name"]
    return [task_id(meta["namespace"], meta["name"], server, model) for server in servers]


def asks_the_same(one: Object, other: Object) -> bool:
    """Whether two ModelDistributions want the same, as far as the second says anything."""
    return bool(
        {key: one["spec"].get(key) for key in ("models", "target")}
        == {key: other["spec"].get(key) for key in ("models", "target")}
    )


def has_failed(existing: Object, ids: Iterable[str]) -> bool:
    """Whether any of these tasks was given up, so that asking again means to try again."""
    wanted = set(ids)
    return any(task.id in wanted and task.status == "failed" for task in tasks_of(existing))
