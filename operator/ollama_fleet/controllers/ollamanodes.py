"""OllamaNodes: servers kept as they are wanted, and seen off when they go."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ollama_fleet.api.access import SecretRefs
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.controllers.act import hasten
from ollama_fleet.controllers.affected import planning_with
from ollama_fleet.controllers.carryout import carry_out, living, refusal
from ollama_fleet.controllers.context import Context
from ollama_fleet.controllers.creation import events_about
from ollama_fleet.controllers.fleet import (
    devices,
    find_workload,
    machines,
    named_claim,
    neighbours_of,
    pods_of,
    rivals_of,
    volumes_of,
    workload_of,
)
from ollama_fleet.controllers.loads import Loads
from ollama_fleet.controllers.loop import Key, Result
from ollama_fleet.controllers.pace import hearsay, rest
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.servers import Servers
from ollama_fleet.controllers.stores import Stores
from ollama_fleet.controllers.traffic import Traffic
from ollama_fleet.controllers.usage import PodUsage
from ollama_fleet.controllers.wanted import Wanted
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import (
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    RESOURCE_CLAIM_TEMPLATE,
)
from ollama_fleet.plan import distribution, ollamanode
from ollama_fleet.plan.demands import models_named
from ollama_fleet.plan.drain import LOOK_AGAIN, Report, drained, ending
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.result import Plan, soonest
from ollama_fleet.plan.servers import pod_ready, probe_url
from ollama_fleet.plan.volumes import Volumes

FIRST_PROBE = 3.0
"""Seconds a reconcile waits for the first word of a server it has only just met."""


class OllamaNodes:
    """Keeps servers as OllamaNodes want them."""

    def __init__(
        self,
        context: Context,
        probes: Probes,
        loads: Loads,
        traffic: Traffic,
        stores: Stores,
        servers: Servers,
        wanted: Wanted,
    ) -> None:
        self._context = context
        self._probes = probes
        self._loads = loads
        self._traffic = traffic
        self._stores = stores
        self._servers = servers
        self._wanted = wanted
        self._usage = PodUsage(context.kube, context.clock)

    async def reconcile(self, namespace: str, name: str) -> Result:
        """Bring one OllamaNode's servers and status up to date."""
        node = living(self._context, OLLAMA_NODE, namespace, name)
        group = f"{namespace}/{name}"
        pods = pods_of(self._context, namespace, name)
        if node is None:
            self._stores.forget(namespace, name)
            self._servers.forget(namespace, name)
            return await self._see_off(group, pods)
        if (refused := refusal(self._context, node, OllamaNodeSpec)) is not None:
            # its servers, if it had some, stay as they are; nobody waits for them to be met
            await self._probes.settled(group, FIRST_PROBE)
            return await carry_out(self._context, node, lambda _: refused)
        urls = self._urls(group, node, pods)
        changed = partial(self._changed, namespace, name)
        self._probes.follow(group, urls, _secrets_of(node), changed)
        self._probes.lives(group, _lives(pods))
        await self._probes.settled(group, FIRST_PROBE)
        await self._traffic.meet(namespace)
        routers = await self._last_words(group, pods)
        await find_workload(self._context, node, pods)
        events = await events_about(self._context.kube, workload_of(self._context, node), pods)
        named = await named_claim(self._context, node, pods)
        # no watch tells how large a claim is that is only named, nor what pods use
        size_due, usage_due = await self._stores.look(node), await self._usage.look(namespace, pods)
        latest = Plan()

        def look(refused: Mapping[str, str]) -> Plan:
            nonlocal latest
            volumes = volumes_of(self._context, node, named, refused)
            latest = self._look(node, pods, events, routers, volumes)
            return latest

        result = await carry_out(self._context, node, look)
        key = Key(OLLAMA_NODE, namespace, name)
        self._loads.want(group, latest.loads, lambda: self._context.loop.mark(key))
        after = soonest(size_due, usage_due, result.requeue_after)
        return Result(after, rest(self._context.loop.busy(), len(pods)))

    async def _see_off(self, group: str, pods: list[Object]) -> Result:
        """The OllamaNode is gone; its pods, on their way out, still finish what they do."""
        if self._probes.met(group):
            self._probes.forget(group)
        self._loads.want(group, (), lambda: None)
        leaving = [pod for pod in pods if ending(pod)]
        if not leaving:
            return Result()
        routers = await self._last_words(group, leaving)
        for pod in drained(leaving, {}, routers, last=True):
            await hasten(self._context, pod)
        return Result(LOOK_AGAIN)

    async def _last_words(self, group: str, pods: list[Object]) -> tuple[Report | None, ...]:
        """What routers say of servers that wait for their last requests; what these have in
        memory, to be loaded again where they come back, is asked for once more, too."""
        leaving = [pod for pod in pods if ending(pod)]
        if not leaving:
            return ()
        asked = (self._probes.refresh(group, url) for pod in leaving if (url := probe_url(pod)))
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PROBE):
                await asyncio.gather(*asked)
        return await self._traffic.reports(group.partition("/")[0])

    def _named(self, node: Object) -> frozenset[str] | None:
        """The models that ModelDistributions want on its servers, where it matters."""
        meta = node["metadata"]
        servers = (node.get("status") or {}).get("servers") or ()
        if not any(one.get("restoring") for one in servers):
            return None
        found: set[str] = set()
        for demand in self._wanted.of(meta["namespace"]):
            spec = demand.spec
            if spec and distribution.means(spec.target, meta["name"], meta.get("labels") or {}):
                found |= models_named(spec)
        return frozenset(found)

    def _look(
        self,
        node: Object,
        pods: list[Object],
        events: tuple[Object, ...],
        routers: tuple[Report | None, ...],
        volumes: Volumes,
    ) -> Plan:
        meta, known = node["metadata"], machines(self._context)
        resource = OllamaNodeSpec.model_validate(node["spec"]).gpu.resource
        observed = Observed(
            workload=workload_of(self._context, node),
            pods=tuple(pods),
            kubernetes_nodes=known,
            probes=self._probes.seen(f"{meta['namespace']}/{meta['name']}"),
            rivals=tuple(rivals_of(self._context, pods, known, resource)),
            devices=devices(self._context),
            disks=self._stores.of(meta["namespace"]),
            usage=self._usage.of(meta["namespace"]),
            claim_templates=tuple(
                self._context.store.list(
                    RESOURCE_CLAIM_TEMPLATE, meta["namespace"], owner=meta["uid"]
                )
            ),
            named=self._named(node),
            demands=self._wanted.of(meta["namespace"]),
            unloaded=self._loads.failures(f"{meta['namespace']}/{meta['name']}"),
            routers=routers,
            active=self._traffic.active(meta["namespace"]),
            wedged=self._traffic.wedged(meta["namespace"]),
            volumes=volumes,
            neighbours=neighbours_of(self._context, node),
            events=events,
            operator_namespace=self._context.settings.namespace,
        )
        plan = ollamanode.plan_ollamanode(node, observed, self._context.clock.now())
        due = self._context.offers.due(self._context.clock.monotonic())
        return replace(plan, requeue_after=soonest(plan.requeue_after, due))

    def _urls(self, group: str, node: Object, pods: list[Object]) -> list[str]:
        """Where to ask: pods once they are ready, and from then on until they are gone."""
        external = node["spec"].get("external")
        if external is not None:
            return [str(external["url"]).rstrip("/")]
        return [
            url
            for pod in pods
            if (url := probe_url(pod)) is not None
            and (pod_ready(pod) or ending(pod) or self._probes.follows(group, url))
        ]

    def _changed(self, namespace: str, name: str, models: frozenset[str] | None) -> None:
        """A server said something new: its OllamaNode, and whoever uses its models, are to hear of
        it; soon enough where it is nothing but what models it has."""
        context, busy = self._context, self._context.loop.busy()
        keys = planning_with(context.store, namespace, name)
        for key in (Key(OLLAMA_NODE, namespace, name), *keys):
            within = 0.0
            if models is not None:
                within = hearsay(busy, concerned=self._concerned(key, models))
            context.loop.mark(key, within)

    def _concerned(self, key: Key, models: frozenset[str]) -> bool:
        return key.kind != MODEL_DISTRIBUTION or self._wanted.concerned(
            key.namespace, key.name, models
        )


def _lives(pods: list[Object]) -> dict[str, str]:
    """What tells the lives of servers apart, by URL, of those that are Ready."""
    return {
        url: f"{pod['metadata']['uid']} {[one.get('restartCount') for one in containers]}"
        for pod in pods
        if (url := probe_url(pod)) is not None and pod_ready(pod)
        for containers in (pod["status"].get("containerStatuses") or (),)
    }


def _secrets_of(node: Object) -> SecretRefs:
    external = node["spec"].get("external") or {}
    refs = (external.get(field) or {} for field in ("headersSecretRef", "caSecretRef"))
    return SecretRefs(*(ref.get("name") for ref in refs))
