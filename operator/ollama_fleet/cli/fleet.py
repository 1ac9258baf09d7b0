"""What the commands read: the fleet's resources, as the API server has them."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.names import same
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.kube import Kube, Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER


@dataclass(frozen=True)
class Server:
    """A server as its OllamaNode reports it."""

    ollamanode: Object
    status: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.status["name"])

    @property
    def namespace(self) -> str:
        """That of its OllamaNode."""
        return namespace_of(self.ollamanode)

    @property
    def cordoned(self) -> bool:
        """Whether it gets no new requests and no new pulls."""
        return bool((self.ollamanode.get("spec") or {}).get("cordoned"))


@dataclass(frozen=True)
class Task:
    """A task as its ModelDistribution reports it."""

    distribution: Object
    status: dict[str, Any]

    @property
    def server(self) -> tuple[str, str]:
        """Namespace and name of its server."""
        return namespace_of(self.distribution), str(self.status["server"])

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.status["model"])

    @property
    def state(self) -> str:
        """As api.taskstatus has them."""
        return str(self.status["state"])

    @property
    def digest(self) -> str | None:
        """Of what is installed."""
        return self.status.get("digest")

    @property
    def drifted(self) -> bool:
        """Whether something is installed that is not what this distribution wants."""
        contradicted = self.status.get("reason") == Reason.CONTRADICTORY_PIN
        return self.digest is not None and self.state != "Installed" and not contradicted


@dataclass(frozen=True)
class Fleet:
    """All of it, in one namespace or in all."""

    ollamanodes: list[Object] = field(default_factory=list)
    distributions: list[Object] = field(default_factory=list)
    routers: list[Object] = field(default_factory=list)

    @property
    def resources(self) -> list[Object]:
        """All resources."""
        return [*self.ollamanodes, *self.distributions, *self.routers]

    def servers(self) -> Iterator[Server]:
        """The servers, by namespace, OllamaNode and name."""
        for one in self.ollamanodes:
            servers = (one.get("status") or {}).get("servers") or ()
            for status in sorted(servers, key=lambda server: str(server["name"])):
                yield Server(one, status)

    def tasks(self) -> Iterator[Task]:
        """The tasks, by namespace, ModelDistribution, server and model."""
        for one in self.distributions:
            yield from tasks_of(one)


def tasks_of(distribution: Object, model: str | None = None) -> list[Task]:
    """The tasks of one ModelDistribution, by server and model; of one model alone where named."""
    found = (distribution.get("status") or {}).get("tasks") or ()
    tasks = [Task(distribution, status) for status in found]
    if model is not None:
        tasks = [task for task in tasks if same(task.model, model)]
    return sorted(tasks, key=lambda task: (task.server, task.model))


def namespace_of(obj: Object) -> str:
    """An object's namespace."""
    return str(obj["metadata"]["namespace"])


def condition(obj: Object, kind: str) -> dict[str, Any]:
    """A condition of an object; empty where it has none of that type."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind), {})


def is_true(obj: Object, kind: str) -> bool:
    """Whether a condition holds."""
    return bool(condition(obj, kind).get("status") == "True")


def is_current(obj: Object) -> bool:
    """Whether the status is about the spec as it is."""
    seen = (obj.get("status") or {}).get("observedGeneration")
    return bool(seen == obj["metadata"].get("generation"))


def chosen_router(routers: list[Object], name: str | None, namespace: str) -> Object:
    """The Router of that name, or the only one; NotPossible where there is none."""
    names = [one["metadata"]["name"] for one in routers]
    if name is None and len(names) > 1:
        raise NotPossible(f"there are several Routers ({', '.join(names)}): choose with --router")
    found = [one for one in routers if name in (None, one["metadata"]["name"])]
    if not found:
        what = "no Router" if name is None else f"no Router {name}"
        raise NotPossible(
            f"{what} in namespace {namespace}: make one (kubectl explain router.spec), or give -n"
        )
    return found[0]


async def read(kube: Kube, namespace: str | None) -> Fleet:
    """The fleet now; in all namespaces where none is given. KubeError where it cannot be read."""
    kinds = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)
    found = await asyncio.gather(*(kube.list(kind, namespace) for kind in kinds))
    stamped = [
        [
            {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
            for obj in sorted(objects, key=lambda obj: (namespace_of(obj), obj["metadata"]["name"]))
        ]
        for kind, objects in zip(kinds, found, strict=True)
    ]
    return Fleet(*stamped)
