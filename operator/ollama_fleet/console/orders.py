"""What people have done: every call that changes something becomes a custom resource."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ollama_fleet.api.quantity import gib
from ollama_fleet.console import agents, tasks
from ollama_fleet.console.agents import Server
from ollama_fleet.console.fleet import View
from ollama_fleet.console.identity import Identity, refusal_of
from ollama_fleet.console.installed import offline
from ollama_fleet.console.models import Known
from ollama_fleet.console.refusal import Refusal, unknown
from ollama_fleet.console.store import Store
from ollama_fleet.console.verdicts import too_small
from ollama_fleet.console.wire import Health, Registration, Task
from ollama_fleet.kube import Conflict, Kind, Kube, KubeError, NotFound, Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE
from ollama_fleet.plan import anew

log = logging.getLogger(__name__)

FIELD_MANAGER = "ollama-fleet-console"


class Orders:
    """Carries them out in the name of whoever asks, with their own token."""

    def __init__(self, store: Store, identity: Identity, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._identity = identity
        self._clock = clock

    async def register(self, view: View, asked: Registration, namespace: str) -> tuple[str, bool]:
        """The agent's id, and whether it is new."""
        await self._identity.require(view.person, "create", OLLAMA_NODE, namespace)
        await self._identity.require(view.person, "patch", OLLAMA_NODE, namespace)
        kube = await self._identity.acting(view.person)
        made = agents.registered(asked, namespace, self._clock())
        name = made["metadata"]["name"]
        try:
            known = await kube.get(OLLAMA_NODE, name, namespace)
            if known is not None and not agents.is_registered(known, asked):
                raise Refusal(
                    409,
                    f"OllamaNode {namespace}/{name} is there already and is no machine that "
                    "registered: choose another machine_name",
                )
            kept = await kube.apply(made, field_manager=FIELD_MANAGER)
        except KubeError as error:
            raise refusal_of(error) from None
        self._store.put(OLLAMA_NODE, kept)
        agent_id = f"{namespace}.{name}"
        log.info("registration successful: agent %s at %s", agent_id, asked.ip_address)
        if asked.gpu_model:
            memory = gib(asked.gpu_memory_bytes) if asked.gpu_memory_bytes else "memory unknown"
            log.info("GPU detected: %s, %s (agent %s)", asked.gpu_model, memory, agent_id)
        return agent_id, known is None

    async def report(self, view: View, health: Health) -> None:
        """Keep how a registered machine does."""
        server = await view.server(health.agent_id)
        if server.spec.external is None:
            raise Refusal(
                409, f"agent {server.id} is a pod, whose health Kubernetes reports itself"
            )
        await self.change(view, OLLAMA_NODE, server.node, agents.report_of(health, self._clock()))

    async def remove(self, view: View, server: Server) -> None:
        """Delete a server elsewhere."""
        if server.spec.external is None:
            raise Refusal(
                409,
                f"agent {server.id} is a pod: scale OllamaNode {server.ollamanode} instead",
            )
        await self._identity.require(view.person, "delete", OLLAMA_NODE, server.namespace)
        kube = await self._identity.acting(view.person)
        meta = server.node["metadata"]
        try:
            await kube.delete(OLLAMA_NODE, meta["name"], meta["namespace"], uid=meta["uid"])
        except KubeError as error:
            raise refusal_of(error) from None
        self._store.drop(OLLAMA_NODE, server.node)
        log.info("agent %s removed", server.id)

    async def change(self, view: View, kind: Kind, obj: Object, change: dict[str, Any]) -> Object:
        """Patch a resource; as it is then."""
        meta = obj["metadata"]
        await self._identity.require(view.person, "patch", kind, meta["namespace"])
        kube = await self._identity.acting(view.person)
        try:
            kept = await kube.patch(kind, meta["name"], meta["namespace"], change)
        except NotFound:
            raise unknown(kind.kind, f"{meta['namespace']}.{meta['name']}") from None
        except KubeError as error:
            raise refusal_of(error) from None
        self._store.put(kind, kept)
        return kept

    async def retry(self, view: View, distribution: Object, task: Task) -> Task:
        """Have a task tried again that was given up, and the others of its ModelDistribution; the
        task as it is then."""
        namespace = distribution["metadata"]["namespace"]
        await self._identity.require(view.person, "patch", MODEL_DISTRIBUTION, namespace)
        tasks.given_up(distribution, task)
        change = anew.change(distribution, self._clock())
        kept = await self.change(view, MODEL_DISTRIBUTION, distribution, change)
        log.info("task %s is tried again: %s to agent %s", task.id, task.model_name, task.agent_id)
        return next((one for one in tasks.tasks_of(kept) if one.id == task.id), task)

    async def allowed(self, view: View, namespaces: Sequence[str]) -> None:
        """Raises `Refusal` unless the person may have models installed there."""
        for namespace in namespaces:
            await self._identity.require(view.person, "create", MODEL_DISTRIBUTION, namespace)

    async def install(
        self, view: View, model: str, known: Known | None, wanted: Mapping[str, Sequence[Server]]
    ) -> list[str]:
        """Have some servers (by namespace) have a model; the ids of the tasks. Raises `Refusal`
        before anything is done where one is offline or too small."""
        for servers in wanted.values():
            for server in servers:
                await self._takes(view, server, model, known)
        kube = await self._identity.acting(view.person)
        started = []
        for namespace, servers in sorted(wanted.items()):
            names = [server.name for server in servers]
            made = tasks.distribution(model, namespace, names)
            started += await self._start(kube, made, names)
        return started

    async def install_everywhere(
        self, view: View, model: str, known: Known | None, wanted: Mapping[str, Sequence[Server]]
    ) -> list[str]:
        """The same for every server of these namespaces, those to come included. Raises `Refusal`
        where not one could begin."""
        refusals = []
        count = 0
        for server in (one for servers in wanted.values() for one in servers):
            count += 1
            try:
                await self._takes(view, server, model, known)
            except Refusal as refusal:
                refusals.append(refusal)
        if count and len(refusals) == count:
            raise refusals[0]
        kube = await self._identity.acting(view.person)
        started = []
        for namespace, servers in sorted(wanted.items()):
            made = tasks.distribution(model, namespace, None)
            started += await self._start(kube, made, [server.name for server in servers])
        return started

    async def _takes(self, view: View, server: Server, model: str, known: Known | None) -> None:
        """Raises `Refusal` (503, 507) where a server is offline or too small."""
        shown = view.shown(server)
        if shown.status == "offline":
            log.warning("failed to send pull to agent %s: it is offline", shown.id)
            raise offline(shown)
        there, _ = await view.known_models(server)
        if known is not None and model not in there:
            refusal = too_small(shown, known)
            if refusal is not None:
                log.warning("failed to send pull to agent %s: %s", shown.id, refusal)
                raise refusal

    async def _start(self, kube: Kube, made: Object, servers: Sequence[str]) -> list[str]:
        """Create a ModelDistribution. What is there already is as good, unless it was given up:
        then it begins anew."""
        ids = tasks.ids_of(made, servers)
        meta = made["metadata"]
        try:
            kept = await self._created(kube, made, ids)
        except KubeError as error:
            raise refusal_of(error) from None
        self._store.put(MODEL_DISTRIBUTION, kept)
        for server, one in zip(servers, ids, strict=True):
            log.info(
                "distribution started: %s to agent %s.%s, task %s",
                made["spec"]["models"][0]["name"],
                meta["namespace"],
                server,
                one,
            )
        return ids

    async def _created(self, kube: Kube, made: Object, ids: Sequence[str]) -> Object:
        try:
            return await kube.create(made)
        except Conflict as error:
            if not error.exists:
                raise
        meta = made["metadata"]
        existing = await kube.get(MODEL_DISTRIBUTION, meta["name"], meta["namespace"])
        if existing is None:
            return await kube.create(made)
        if not tasks.asks_the_same(made, existing):
            raise Refusal(
                409,
                f"ModelDistribution {meta['namespace']}/{meta['name']} is there already and says "
                "something else: delete it, or change it with kubectl",
            )
        if not tasks.has_failed(existing, ids):
            return existing
        change = anew.change(existing, self._clock())
        return await kube.patch(MODEL_DISTRIBUTION, meta["name"], meta["namespace"], change)
