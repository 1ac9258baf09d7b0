"""What a person sees of the fleet: agents and tasks, out of what the store has."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ollama_fleet.console import tasks
from ollama_fleet.console.agents import Server, agent, agents_of
from ollama_fleet.console.identity import Identity, Person
from ollama_fleet.console.refusal import Refusal, unknown
from ollama_fleet.console.store import Store
from ollama_fleet.console.wire import Agent, Me, Rights, Task
from ollama_fleet.kube import Kind, Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER


@dataclass(frozen=True)
class Settings:
    """What the console is told when it starts."""

    namespace: str = "default"
    """Where machines register."""
    offline_after: timedelta = timedelta(seconds=60)
    """For how long a registered machine may be silent."""


class View:
    """The fleet as one person sees it."""

    def __init__(
        self,
        store: Store,
        identity: Identity,
        person: Person,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        self.person = person
        self._store = store
        self._identity = identity
        self._settings = settings
        self._clock = clock
        self._completed: dict[str, dict[str, set[str]]] = {}
        """As of the first question: there is a view for each request."""

    async def nodes(self, namespace: str | None = None) -> list[Object]:
        """The OllamaNodes of one namespace, or of all that the person may see; raises `Refusal`
        (403)."""
        return await self._objects(OLLAMA_NODE, namespace)

    async def distributions(self, namespace: str | None = None) -> list[Object]:
        """The ModelDistributions; likewise."""
        return await self._objects(MODEL_DISTRIBUTION, namespace)

    async def routers(self, namespace: str | None = None) -> list[Object]:
        """The Routers; likewise."""
        return await self._objects(ROUTER, namespace)

    async def resource(self, kind: Kind, identity: str) -> Object:
        """The object of a kind whose id is NAMESPACE.NAME; raises `Refusal` (403, 404)."""
        for one in await self._objects(kind, None):
            if f"{one['metadata']['namespace']}.{one['metadata']['name']}" == identity:
                return one
        raise unknown(kind.kind, identity)

    async def me(self) -> Me:
        """Whoever asks, and what they may change where they see anything."""
        there = self._store.namespaces()
        seen: set[str] = set()
        for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER):
            where = await self._identity.where(self.person, kind, there)
            seen |= there if where is None else where
        rights = await asyncio.gather(*(self._rights(one) for one in sorted(seen)))
        return Me(name=self.person.name, anonymous=self.person.anonymous, namespaces=list(rights))

    async def _rights(self, namespace: str) -> Rights:
        async def may(verb: str, kind: Kind) -> bool:
            allowed = self._identity.may
            return await allowed(self.person, verb, kind) or await allowed(
                self.person, verb, kind, namespace
            )

        return Rights(
            namespace=namespace,
            cordon=await may("patch", OLLAMA_NODE),
            distribute=await may("create", MODEL_DISTRIBUTION),
            change=await may("patch", MODEL_DISTRIBUTION),
        )

    async def _objects(self, kind: Kind, namespace: str | None) -> list[Object]:
        seen = await self.where(kind, namespace)
        return self._store.all(kind, seen)

    async def where(self, kind: Kind, namespace: str | None = None) -> frozenset[str] | None:
        """Where the person may see objects of a kind; None: everywhere. Raises `Refusal`."""
        if namespace is not None:
            if await self._identity.may(self.person, "list", kind) or await self._identity.may(
                self.person, "list", kind, namespace
            ):
                return frozenset((namespace,))
            seen: frozenset[str] | None = frozenset()
        else:
            there = self._store.namespaces() | {self._settings.namespace}
            seen = await self._identity.where(self.person, kind, there)
        if seen is not None and not seen:
            place = f"namespace {namespace}" if namespace else "any namespace with a fleet"
            raise Refusal(
                403,
                f"{self.person.name} may not list {kind.plural} in {place}. Ask for the "
                "ClusterRole ollama-fleet-viewer to be bound to you there.",
            )
        return seen

    async def agents(self, namespace: str | None = None) -> list[Agent]:
        """Every server."""
        now, after = self._clock(), self._settings.offline_after
        nodes = await self.nodes(namespace)
        return [one for node in nodes for one in agents_of(node, now, after)]

    async def server(self, agent_id: str) -> Server:
        """One server; raises `Refusal` (403, 404)."""
        seen = await self.where(OLLAMA_NODE)
        for one in self._store.servers():
            if one.id == agent_id and (seen is None or one.namespace in seen):
                return one
        raise unknown("agent", agent_id)

    def shown(self, server: Server) -> Agent:
        """A server as the API tells of it."""
        return agent(server, self._clock(), self._settings.offline_after)

    async def tasks(self, namespace: str | None = None) -> list[Task]:
        """Every task, the newest first."""
        # whoever may see a distribution is told all its tasks
        servers = self._store.servers()
        found = [
            task
            for one in await self.distributions(namespace)
            for task in (*tasks.tasks_of(one), *tasks.promised(one, servers))
        ]
        return sorted(found, key=lambda task: (task.created_at, task.id), reverse=True)

    async def task(self, task_id: str) -> Task:
        """One task; raises `Refusal` (403, 404)."""
        for one in await self.tasks():
            if one.id == task_id:
                return one
        raise unknown("task", task_id)

    async def known_models(self, server: Server) -> tuple[frozenset[str], bool]:
        """Models known to be on a server, and whether these are all of them; whoever may not see
        tasks is told of what is in memory."""
        if server.namespace not in self._completed:
            self._completed[server.namespace] = await self._completed_in(server.namespace)
        listed = self._completed[server.namespace].get(server.id, set())
        known = frozenset(listed | set(server.status.get("resident") or ()))
        count = server.status.get("installed")
        return known, count is not None and len(known) >= count

    async def _completed_in(self, namespace: str) -> dict[str, set[str]]:
        """The models that tasks have brought to the servers of a namespace, by agent."""
        found: dict[str, set[str]] = {}
        try:
            every = await self.tasks(namespace)
        except Refusal as refusal:
            if refusal.status != 403:
                raise
            every = []
        for task in every:
            if task.status == "completed":
                found.setdefault(task.agent_id, set()).add(task.model_name)
        return found
