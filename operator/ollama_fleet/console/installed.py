"""The models on a server's disk: as it says itself, or as distributions know them."""

from collections.abc import Iterable

from ollama_fleet.console.agents import Server
from ollama_fleet.console.refusal import Refusal
from ollama_fleet.console.wire import Agent, InstalledModel, Task
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import OllamaError
from ollama_fleet.ollama.wire import InstalledModel as Listed
from ollama_fleet.plan.times import rfc3339

TIMEOUT = 5.0
"""Seconds a server has for its answer."""


async def models_of(server: Server, shown: Agent, tasks: Iterable[Task]) -> list[InstalledModel]:
    """What is there now; raises `Refusal` (503). A server that asks for headers out of a Secret is
    not asked: of it is told what ModelDistributions have installed."""
    external = server.spec.external
    if external is not None and external.secrets.names:
        return sorted(
            (known(task) for task in tasks if task.agent_id == shown.id and task.digest),
            key=lambda model: model.name,
        )
    if server.url is None or shown.status == "offline":
        raise offline(shown)
    try:
        async with OllamaClient(server.url, timeout=TIMEOUT) as client:
            listed = await client.tags()
    except OllamaError as error:
        raise Refusal(503, f"agent {shown.id} does not tell its models: {error}") from None
    return [told(one) for one in sorted(listed, key=lambda one: one.name)]


def told(model: Listed) -> InstalledModel:
    """A model as its server lists it."""
    digest = model.digest if model.digest.startswith("sha256:") else f"sha256:{model.digest}"
    return InstalledModel(
        name=model.name or model.model,
        size_gb=gigabytes(model.size),
        installed_at=rfc3339(model.modified_at),
        digest=digest,
    )


def known(task: Task) -> InstalledModel:
    """A model as the task that installed it knows it."""
    return InstalledModel(
        name=task.model_name,
        size_gb=gigabytes(task.total_bytes or 0),
        installed_at=task.updated_at,
        digest=task.digest or "",
    )


def gigabytes(size: int) -> float:
    """Bytes as 10^9 bytes, to the megabyte."""
    return round(size / 1e9, 3)


def offline(shown: Agent) -> Refusal:
    """503: nothing can be asked of it or sent to it now."""
    why = f": {shown.message}" if shown.message else ""
    return Refusal(
        503,
        f"agent {shown.id} is offline, last seen {shown.last_seen}{why}",
        {"agent_id": shown.id},
        {"Retry-After": "30"},
    )
