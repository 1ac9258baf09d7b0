"""One reconciler per kind: observe, plan, act, report."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

from pydantic import ValidationError

from ollama_fleet.api.access import SecretError, SecretRefs
from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.servers import ROUTER_LABEL
from ollama_fleet.controllers.act import RefusedError, apply, change, hasten, report
from ollama_fleet.controllers.context import Context, Reconcilers
from ollama_fleet.controllers.creation import events_about
from ollama_fleet.controllers.facts import RegistryFacts
from ollama_fleet.controllers.fleet import (
    devices,
    find_workload,
    machines,
    named_claim,
    neighbours_of,
    pods_of,
    rivals_of,
    servers_in,
    volumes_of,
    workload_of,
)
from ollama_fleet.controllers.fleetmetrics import FleetCollector
from ollama_fleet.controllers.loads import Loads
from ollama_fleet.controllers.loop import Key, Result
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.pulls import Pulls
from ollama_fleet.controllers.stores import Stores
from ollama_fleet.controllers.traffic import Traffic
from ollama_fleet.controllers.usage import PodUsage
from ollama_fleet.kube import Kind, NotFound, Object
from ollama_fleet.kube.access import read_access
from ollama_fleet.kube.kinds import (
    DEPLOYMENT,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    POD,
    RESOURCE_CLAIM_TEMPLATE,
    ROUTER,
    SERVICE,
)
from ollama_fleet.plan import distribution, ollamanode, router
from ollama_fleet.plan.conditions import Verdict, conditions, transition
from ollama_fleet.plan.drain import LOOK_AGAIN, Report, drained, ending
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.result import Plan, soonest
from ollama_fleet.plan.servers import pod_ready, probe_url
from ollama_fleet.plan.tasks import RegistryFact, Seen, failures_from_status
from ollama_fleet.plan.troubles import Trouble
from ollama_fleet.plan.volumes import Volumes

log = logging.getLogger(__name__)

FIRST_PROBE = 3.0
"""Seconds a reconcile waits for the first word of a server it has only just met."""
NOT_YET = 0.5
"""Seconds until it is looked again whether a fresh operator has met every server."""


def build(context: Context) -> Reconcilers:
    """The reconcilers, sharing what is known of servers and pulls."""
    probes = Probes(
        context.background,
        context.clock,
        context.random,
        context.settings.request_timeout,
        partial(read_access, context.kube),
        context.settings.probe_interval,
        timedelta(seconds=context.settings.offline_after),
    )
    pulls = Pulls(context.background, probes, context.clock, context.metrics)
    context.metrics.register(FleetCollector(context.store))
    loads = Loads(context.background, probes, context.clock)

    def busier(namespace: str) -> None:
        for node in context.store.list(OLLAMA_NODE, namespace):
            context.loop.mark(Key(OLLAMA_NODE, namespace, node["metadata"]["name"]))

    interval = context.settings.probe_interval
    traffic = Traffic(context.store, context.clock, interval, busier)
    context.background.start("traffic", traffic.run())
    facts = RegistryFacts(context.clock, context.settings.request_timeout)
    stores = Stores(context, facts)
    return {
        OLLAMA_NODE: OllamaNodes(context, probes, loads, traffic, stores).reconcile,
        MODEL_DISTRIBUTION: ModelDistributions(context, probes, stores, pulls, facts).reconcile,
        ROUTER: Routers(context, probes, stores).reconcile,
    }


class OllamaNodes:
    """Keeps servers as OllamaNodes want them."""

    def __init__(
        self, context: Context, probes: Probes, loads: Loads, traffic: Traffic, stores: Stores
    ) -> None:
        self._context = context
        self._probes = probes
        self._loads = loads
        self._traffic = traffic
        self._stores = stores
        self._usage = PodUsage(context.kube, context.clock)

    async def reconcile(self, namespace: str, name: str) -> Result:
        """Bring one OllamaNode's servers and status up to date."""
        node = _living(self._context, OLLAMA_NODE, namespace, name)
        group = f"{namespace}/{name}"
        pods = pods_of(self._context, namespace, name)
        if node is None:
            self._stores.forget(namespace, name)
            return await self._see_off(group, pods)
        urls = self._urls(group, node, pods)
        self._probes.follow(group, urls, _secrets_of(node), lambda: self._changed(namespace, name))
        await self._probes.settled(group, FIRST_PROBE)
        routers = await self._last_words(group, pods)
        await find_workload(self._context, node, pods)
        events = await events_about(self._context.kube, workload_of(self._context, node), pods)
        named = await named_claim(self._context, node, pods)
        # no watch tells how large a claim is that is only named, nor what pods use
        after = [await self._stores.look(node), await self._usage.look(namespace, pods)]
        latest = Plan()

        def look(refused: Mapping[str, str]) -> Plan:
            nonlocal latest
            volumes = volumes_of(self._context, node, named, refused)
            latest = self._look(node, pods, events, routers, volumes)
            return latest

        result = await _carry_out(self._context, node, look)
        key = Key(OLLAMA_NODE, namespace, name)
        self._loads.want(group, latest.loads, lambda: self._context.loop.mark(key))
        after.append(result.requeue_after)
        return Result(min((one for one in after if one is not None), default=None))

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
        for wanted in self._context.store.list(MODEL_DISTRIBUTION, meta["namespace"]):
            try:
                spec = ModelDistributionSpec.model_validate(wanted["spec"])
            except ValidationError:
                continue
            if distribution.means(spec.target, meta["name"], meta.get("labels") or {}):
                found |= distribution.models_named(spec)
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
            unloaded=self._loads.failures(f"{meta['namespace']}/{meta['name']}"),
            routers=routers,
            active=self._traffic.active(meta["namespace"]),
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

    def _changed(self, namespace: str, name: str) -> None:
        """A server said something new: its OllamaNode, and whoever uses its models."""
        mark = self._context.loop.mark
        mark(Key(OLLAMA_NODE, namespace, name))
        for kind in (MODEL_DISTRIBUTION, ROUTER):
            for one in self._context.store.list(kind, namespace):
                mark(Key(kind, namespace, one["metadata"]["name"]))


class ModelDistributions:
    """Keeps models where ModelDistributions want them."""

    def __init__(
        self, context: Context, probes: Probes, stores: Stores, pulls: Pulls, facts: RegistryFacts
    ) -> None:
        self._context = context
        self._probes = probes
        self._stores = stores
        self._pulls = pulls
        self._facts = facts

    async def reconcile(self, namespace: str, name: str) -> Result:
        """Start and stop pulls as one ModelDistribution wants, and report."""
        wanted = _living(self._context, MODEL_DISTRIBUTION, namespace, name)
        owner = f"{namespace}/{name}"
        if wanted is None:
            self._pulls.keep(owner, ())
            self._pulls.forgive(owner)
            return Result()
        if not _fleet_known(self._context, self._probes, namespace):
            return Result(NOT_YET)
        try:
            spec = ModelDistributionSpec.model_validate(wanted["spec"])
        except ValidationError as error:
            invalid = _invalid(self._context, wanted, error)
            return await _carry_out(self._context, wanted, lambda _: invalid)
        self._recall(owner, wanted)
        models = distribution.models_named(spec)
        seen = Seen(
            registry=await self._ask(spec, models),
            running=self._pulls.running(owner),
            failures=self._pulls.failures(owner),
            arriving=self._pulls.arriving(namespace),
        )
        made = distribution.plan_distribution(
            wanted,
            servers_in(self._context, self._probes, self._stores, namespace),
            self._expected(spec, namespace),
            seen,
            self._context.clock.now(),
        )
        self._pulls.keep(owner, made.keep)
        key = Key(MODEL_DISTRIBUTION, namespace, name)
        for order in made.start:
            failure = seen.failures.get(order.task)
            attempts = failure.attempts if failure else 0
            self._pulls.start(owner, order, attempts, lambda: self._context.loop.mark(key))
        after = soonest(
            made.plan.requeue_after,
            self._facts.next_look(spec.source, models),
            0.0 if made.start else None,
        )
        plan = replace(made.plan, requeue_after=after)
        return await _carry_out(self._context, wanted, lambda _: plan)

    async def _ask(self, spec: ModelDistributionSpec, models: set[str]) -> dict[str, RegistryFact]:
        """What the registry says; OllamaNodes hear of what models turn out to share."""
        known = len(self._facts.layers)
        found = await self._facts.of(spec.source, models)
        if len(self._facts.layers) > known:
            for node in self._context.store.list(OLLAMA_NODE):
                meta = node["metadata"]
                self._context.loop.mark(Key(OLLAMA_NODE, meta["namespace"], meta["name"]))
        return found

    def _recall(self, owner: str, wanted: Object) -> None:
        status = wanted.get("status") or {}
        generation = wanted["metadata"].get("generation", 1)
        if status and status.get("observedGeneration") != generation:
            self._pulls.forgive(owner)
        else:
            self._pulls.recall(owner, failures_from_status(status, generation))

    def _expected(self, spec: ModelDistributionSpec, namespace: str) -> bool:
        """Whether there is an OllamaNode that the target means."""
        target = spec.target
        return any(
            distribution.means(target, meta["name"], meta.get("labels") or {})
            for node in self._context.store.list(OLLAMA_NODE, namespace)
            for meta in (node["metadata"],)
        )


class Routers:
    """Keeps routers as Routers want them."""

    def __init__(self, context: Context, probes: Probes, stores: Stores) -> None:
        self._context = context
        self._probes = probes
        self._stores = stores

    async def reconcile(self, namespace: str, name: str) -> Result:
        """Bring one Router's Deployment, Service and status up to date."""
        context = self._context
        wanted = _living(context, ROUTER, namespace, name)
        if wanted is None:
            return Result()
        if not _fleet_known(context, self._probes, namespace):
            return Result(NOT_YET)
        troubles = await self._secret_troubles(wanted)
        return await _carry_out(context, wanted, lambda _: self._look(wanted, troubles))

    def _look(self, wanted: Object, troubles: tuple[Trouble, ...]) -> Plan:
        context = self._context
        namespace, name = wanted["metadata"]["namespace"], wanted["metadata"]["name"]
        observed = router.Observed(
            deployment=context.store.get(DEPLOYMENT, namespace, f"{name}-router"),
            service=context.store.get(SERVICE, namespace, name),
            pods=tuple(context.store.list(POD, namespace, {ROUTER_LABEL: name})),
            servers=tuple(servers_in(context, self._probes, self._stores, namespace)),
            ollamanodes=tuple(context.store.list(OLLAMA_NODE, namespace)),
            secret_troubles=troubles,
        )
        program = router.Program(context.settings.image, context.settings.router_cluster_role)
        plan = router.plan_router(wanted, observed, program, context.clock.now())
        if not router.backend_secrets(wanted["spec"]):
            return plan
        return replace(plan, requeue_after=context.settings.probe_interval)

    async def _secret_troubles(self, wanted: Object) -> tuple[Trouble, ...]:
        found = []
        for refs in router.backend_secrets(wanted["spec"]):
            try:
                await read_access(self._context.kube, wanted["metadata"]["namespace"], refs)
            except SecretError as error:
                found.append(Trouble(error.reason, str(error)))
        return tuple(found)


def _secrets_of(node: Object) -> SecretRefs:
    external = node["spec"].get("external") or {}
    refs = (external.get(field) or {} for field in ("headersSecretRef", "caSecretRef"))
    return SecretRefs(*(ref.get("name") for ref in refs))


def _living(context: Context, kind: Kind, namespace: str, name: str) -> Object | None:
    """The object, unless it is gone or going."""
    obj = context.store.get(kind, namespace, name)
    return None if obj is None or obj["metadata"].get("deletionTimestamp") else obj


def _fleet_known(context: Context, probes: Probes, namespace: str) -> bool:
    """Whether every OllamaNode has been looked at since this operator started.

    Before that, servers that are up would be taken for missing, and status would tell so.
    """
    return all(
        probes.met(f"{namespace}/{node['metadata']['name']}")
        for node in context.store.list(OLLAMA_NODE, namespace)
        if not node["metadata"].get("deletionTimestamp")
    )


async def _carry_out(
    context: Context, obj: Object, look: Callable[[Mapping[str, str]], Plan]
) -> Result:
    """Apply what ``look`` plans, and report; it looks again after a change, and is given what
    Kubernetes would not have changed.

    Without the second look, status would call new what was seen of the old.
    """
    try:
        plan = look({})
    except ValidationError as error:
        plan = _invalid(context, obj, error)
    try:
        written = await apply(context, plan)
        refused = await change(context, plan)
        if written or plan.change:
            plan = look(refused)
        await report(context, obj, plan)
    except RefusedError as error:
        verdict = Verdict.stuck(Reason.APPLY_REFUSED, f"{error}. Correct the spec.")
        await report(context, obj, _stalled(context, obj, plan, verdict))
    except NotFound:
        # deleted while it was reconciled: the watch tells
        log.debug("%s is gone", obj["metadata"]["name"])
    return Result(plan.requeue_after)


def _invalid(context: Context, obj: Object, error: ValidationError) -> Plan:
    """A spec that an older CRD let through."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in ("spec", *first["loc"]))
    verdict = Verdict.stuck(Reason.INVALID_SPEC, f"{path}: {first['msg']}. Correct it.")
    return _stalled(context, obj, Plan(status=obj.get("status") or {}), verdict)


def _stalled(context: Context, obj: Object, plan: Plan, verdict: Verdict) -> Plan:
    previous = (obj.get("status") or {}).get("conditions") or ()
    generation = obj["metadata"].get("generation", 1)
    told = conditions(previous, verdict, generation, context.clock.now())
    return replace(
        plan,
        apply=(),
        delete=(),
        status={**plan.status, "observedGeneration": generation, "conditions": told},
        notes=transition(previous, verdict),
    )
