"""A ModelDistribution planned over a registry, and what came of it."""

from dataclasses import replace
from typing import Any

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.plan.distribution import plan_distribution
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.tasks import RegistryFact, Seen, task_id
from tests.unit.plan.objects import DIGEST, GIB, NOW, OTHER, Object, resource

LLAMA = "llama3.1:8b"
REGISTRY = {
    LLAMA: RegistryFact(DIGEST, 5 * GIB),
    "gpt-oss:20b": RegistryFact(OTHER, 13 * GIB),
    "tiny:latest": RegistryFact(DIGEST, GIB),
}
MIRROR = Mirror("mirror:5000", frozenset({"registry.ollama.ai", "hf.co", "models.lan:80"}))
WANT = {"models": [{"name": LLAMA}]}


def seen(**changes: Any) -> Seen:
    return replace(Seen(registry=REGISTRY, running={}, failures={}), **changes)


def plan(spec: Object, *servers: Server, status: Object | None = None, **changes: Any) -> Any:
    wanted = resource("ModelDistribution", "md", spec)
    if status:
        wanted["status"] = status
    return plan_distribution(wanted, servers, True, seen(**changes), NOW)


def only_task(made: Any) -> dict[str, Any]:
    (task,) = made.plan.status["tasks"]
    return dict(task)


def condition(made: Any, kind: str) -> tuple[str, str]:
    return next(
        (one["status"], one["reason"])
        for one in made.plan.status["conditions"]
        if one["type"] == kind
    )


TASK = task_id("llm", "md", "a-0", LLAMA)
