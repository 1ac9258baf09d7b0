"""What a pull is: the ModelDistribution that asks for it, and how far it is. No I/O."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import Fleet, Task, condition, is_current, is_true, tasks_of
from ollama_fleet.cli.views import download
from ollama_fleet.kube import Object

NAME = "pulled"
"""The ModelDistribution for what goes to every server."""
ENDED = ("Installed", "Failed", "Misfit")
_LONGEST = 63
_STEPS = 4
"""In how many parts a pull is told where no bar moves."""


def target(names: Sequence[str], fleet: Fleet) -> Object:
    """Of a ModelDistribution: these OllamaNodes, or these servers; empty for all there are."""
    if not names:
        return {}
    wanted = sorted(set(names))
    nodes = {one["metadata"]["name"] for one in fleet.ollamanodes}
    servers = {server.name for server in fleet.servers()}
    if nodes.issuperset(wanted):
        return {"ollamaNodes": wanted}
    if servers.issuperset(wanted):
        return {"servers": wanted}
    strange = [name for name in wanted if name not in nodes | servers]
    if not strange:
        raise NotPossible("--to takes OllamaNodes or servers, not both: do one after the other")
    known = ", ".join(sorted(nodes)) or "none"
    raise NotPossible(
        f"no OllamaNode or server is called {', '.join(strange)}: OllamaNodes here are {known}"
    )


def name_for(wanted: Object) -> str:
    """The ModelDistribution's name where none is given: the same for the same target."""
    if not wanted:
        return NAME
    ((kind, names),) = wanted.items()
    name = "-".join([NAME, *names])
    if kind == "servers" or len(names) > 1 or len(name) > _LONGEST:
        # so that servers a and b, and an OllamaNode a-b, do not meet
        mark = hashlib.sha256(f"{kind} {' '.join(names)}".encode()).hexdigest()[:6]
        name = f"{name[: _LONGEST - 7].rstrip('-.')}-{mark}"
    return name


def distribution(name: str, namespace: str, model: str, wanted: Object) -> Object:
    """What is applied: this model and the target, all else is as it was."""
    spec: Object = {"models": [{"name": model}]}
    if wanted:
        spec["target"] = wanted
    return {
        "apiVersion": "ollamafleet.dev/v1alpha1",
        "kind": "ModelDistribution",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def manager(model: str) -> str:
    """The field manager: one for each model, so that applying one takes none of the others away,
    and two people may pull at once."""
    return f"kubectl-ollama-{hashlib.sha256(model.lower().encode()).hexdigest()[:12]}"


def refusal(existing: Object, wanted: Object) -> str | None:
    """Why a ModelDistribution that exists is not to be extended, with what to do instead."""
    spec = existing["spec"]
    name = existing["metadata"]["name"]
    other = spec.get("target") or {}
    if wanted and other != wanted:
        return (
            f"ModelDistribution {name} is for other servers: leave out --to, or name another one "
            "with --distribution"
        )
    for field in ("suspend", "dryRun"):
        if spec.get(field):
            return (
                f"ModelDistribution {name} has {field}: true and pulls nothing: set that to false, "
                "or name another one with --distribution"
            )
    if spec.get("pullPolicy") == "Never":
        return (
            f"ModelDistribution {name} has pullPolicy: Never: change that, or name another one "
            "with --distribution"
        )
    return None


@dataclass(frozen=True)
class State:
    """How far a pull is."""

    tasks: list[Task]
    ended: bool = False
    problems: tuple[str, ...] = ()
    """Why it is not on all servers, once it has ended."""
    waiting: str = ""
    """What it waits for, before there are tasks."""


def state_of(obj: Object, model: str) -> State:
    """How far a model's pull is, as its ModelDistribution reports it."""
    tasks = tasks_of(obj, model)
    if not is_current(obj):
        return State([], waiting="waiting for the operator")
    if is_true(obj, "Ready"):
        return State(tasks, ended=True)
    omitted = (obj.get("status") or {}).get("tasksOmitted", 0)
    # what is left out is installed where something that is installed was not
    whole = not omitted or any(task.state == "Installed" for task in tasks_of(obj))
    if tasks and whole:
        ended = all(task.state in ENDED for task in tasks)
        problems = tuple(_problem(task) for task in tasks if task.state != "Installed")
        return State(tasks, ended, problems if ended else ())
    if is_true(obj, "Stalled"):
        stalled = condition(obj, "Stalled")
        return State(tasks, True, (f"{stalled['reason']}: {stalled.get('message', '')}",))
    return State(tasks, waiting=condition(obj, "Ready").get("message", ""))


def line(task: Task) -> str:
    """A task in a line, where no bar moves."""
    server = task.server[1]
    if task.state in ("Pulling", "Verifying"):
        told = f"{quarter(task) * 100 // _STEPS} %"
        size = download(task.status.get("totalBytes"))
        return f"{server}: {task.state.lower()} {task.model}, {told}{f' of {size}' if size else ''}"
    if task.state == "Installed":
        return f"{server}: {task.model} is installed"
    return _problem(task)


def quarter(task: Task) -> int:
    """How many quarters are there: a line is worth writing when that changes."""
    return int(float(task.status.get("progress", 0.0)) * _STEPS)


def _problem(task: Task) -> str:
    message = task.status.get("message") or task.status.get("reason") or ""
    return f"{task.server[1]}: {task.model} {task.state.lower()}: {message}"
