"""One reconciler per kind: observe, plan, act, report."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from pydantic import ValidationError

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.controllers.carryout import (
    NOT_YET,
    carry_out,
    fleet_known,
    invalid,
    living,
)
from ollama_fleet.controllers.comparisons import Comparisons, fresh_from
from ollama_fleet.controllers.context import Context, Reconcilers
from ollama_fleet.controllers.facts import RegistryFacts
from ollama_fleet.controllers.fleet import (
    manifests_of,
    shared_urls,
)
from ollama_fleet.controllers.fleetmetrics import FleetCollector
from ollama_fleet.controllers.loads import Loads
from ollama_fleet.controllers.loop import Key, Result
from ollama_fleet.controllers.ollamanodes import OllamaNodes
from ollama_fleet.controllers.pace import rest
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.pruning import Pruning
from ollama_fleet.controllers.pulls import Pulls
from ollama_fleet.controllers.routers import Routers
from ollama_fleet.controllers.servers import Servers
from ollama_fleet.controllers.shapes import Shapes
from ollama_fleet.controllers.stores import Stores
from ollama_fleet.controllers.traffic import Traffic
from ollama_fleet.controllers.wanted import Wanted
from ollama_fleet.kube import Object
from ollama_fleet.kube.access import read_access
from ollama_fleet.kube.kinds import (
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    ROUTER,
)
from ollama_fleet.plan import anew, distribution, prune
from ollama_fleet.plan.demands import key, models_named
from ollama_fleet.plan.result import soonest
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.shapes import holders
from ollama_fleet.plan.tasknotes import Told
from ollama_fleet.plan.taskreport import failures_from_status
from ollama_fleet.plan.tasks import RegistryFact, Seen

WAITING = 30.0
"""Seconds after which one that waits for the operator's limit looks for itself whether it may go
on; it is called when it may."""


def build(context: Context) -> Reconcilers:
    """The reconcilers, sharing what is known of servers and pulls."""
    settings = context.settings
    probes = Probes(
        context.background,
        context.clock,
        context.random,
        settings.request_timeout,
        partial(read_access, context.kube),
        settings.probe_interval,
        timedelta(seconds=settings.offline_after),
    )
    limit = settings.max_parallel_pulls
    pulls = Pulls(context.background, probes, context.clock, context.metrics, limit)
    context.metrics.register(FleetCollector(context.store))
    loads = Loads(context.background, probes, context.clock)

    def busier(namespace: str) -> None:
        for node in context.store.list(OLLAMA_NODE, namespace):
            context.loop.mark(Key(OLLAMA_NODE, namespace, node["metadata"]["name"]))

    traffic = Traffic(context.store, context.clock, settings.probe_interval, busier)
    context.background.start("traffic", traffic.run())

    def described() -> None:
        for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION):
            for one in context.store.list(kind):
                meta = one["metadata"]
                context.loop.mark(Key(kind, meta["namespace"], meta["name"]))

    facts = RegistryFacts(context.clock, settings.request_timeout, mirror=settings.mirror)
    shapes = Shapes(context.background, probes, context.clock, described)
    stores = Stores(context, facts, shapes)
    wanted = Wanted(context.store)
    servers = Servers(context, probes, stores)
    pruning = Pruning(context.background, probes, pulls, traffic)
    return {
        OLLAMA_NODE: OllamaNodes(
            context, probes, loads, traffic, stores, servers, wanted
        ).reconcile,
        MODEL_DISTRIBUTION: ModelDistributions(
            context, probes, servers, pulls, facts, shapes, pruning, wanted
        ).reconcile,
        ROUTER: Routers(context, probes, servers).reconcile,
    }


class ModelDistributions:
    """Keeps models where ModelDistributions want them."""

    def __init__(
        self,
        context: Context,
        probes: Probes,
        servers: Servers,
        pulls: Pulls,
        facts: RegistryFacts,
        shapes: Shapes,
        pruning: Pruning,
        wanted: Wanted,
    ) -> None:
        self._context = context
        self._probes = probes
        self._servers = servers
        self._pulls = pulls
        self._facts = facts
        self._shapes = shapes
        self._pruning = pruning
        self._wanted = wanted
        self._planned: set[tuple[str, str]] = set()
        self._comparisons = Comparisons()
        self._told: dict[str, tuple[object, Told]] = {}

    async def reconcile(self, namespace: str, name: str) -> Result:
        """Start and stop pulls as one ModelDistribution wants, and report."""
        wanted = living(self._context, MODEL_DISTRIBUTION, namespace, name)
        owner = f"{namespace}/{name}"
        if wanted is None:
            self._pulls.forget(owner)
            self._comparisons.forget(owner)
            self._planned.discard((namespace, name))
            self._told.pop(owner, None)
            return Result()
        if not fleet_known(self._context, self._probes, namespace):
            return Result(NOT_YET)
        try:
            spec = ModelDistributionSpec.model_validate(wanted["spec"])
        except ValidationError as error:
            self._planned.add((namespace, name))
            refusal = invalid(self._context, wanted, error)
            self._pulls.places(owner, 0, lambda: None)
            return await carry_out(self._context, wanted, lambda _: refusal)
        self._recall(owner, wanted)
        models = models_named(spec)
        expected = self._expected(spec, namespace)
        means = partial(distribution.means, spec.target)
        targeted = distribution.targeted(spec.target, self._servers.of(namespace, means))
        now = self._context.clock.now()
        call = self._comparisons.call(owner, wanted, spec, targeted, now)
        failures = self._pulls.failures(owner).values()
        since = fresh_from(call, failures, anew.asked(wanted), now)
        registry = await self._ask(spec, models, expected, since)
        self._shapes.learn(registry.values())
        undescribed = await self._shapes.ask(namespace, holders(targeted, models))
        seen = Seen(
            registry=registry,
            compare=call is not None,
            running=self._pulls.running(owner),
            failures=self._pulls.failures(owner),
            arriving=self._pulls.arriving(namespace),
            mirror=self._context.settings.mirror,
        )
        own = Key(MODEL_DISTRIBUTION, namespace, name)
        servers = self._servers.of(namespace, means)
        now = self._context.clock.now()
        uid, told = self._told.get(owner, (None, None))
        around = distribution.Around(
            self._wanted.of(namespace),
            shared_urls(self._context),
            manifests_of(self._context, namespace, name),
            told if uid == wanted["metadata"].get("uid") else None,
        )

        def places(more: int) -> int:
            return self._pulls.places(owner, more, lambda: self._context.loop.mark(own))

        made = distribution.plan_distribution(wanted, servers, expected, seen, now, around, places)
        self._planned.add((namespace, name))
        self._pulls.keep(owner, made.keep)
        again = False
        if made.compared and call is not None:
            self._comparisons.done(owner)
            if call.scheduled and seen.failures:
                # they failed on the way to the digests of before
                self._pulls.forgive(owner)
                again = True
        for order in made.start:
            self._pulls.start(owner, order, order.attempts, lambda: self._context.loop.mark(own))
        for leftover in made.tidy:
            self._pruning.tidy(namespace, leftover)
        removed = await self._prune(namespace, name, made.delete, servers)
        after = soonest(
            made.plan.requeue_after,
            self._facts.next_look(spec.source, models),
            undescribed,
            0.0 if again or removed else None,
            WAITING if self._pulls.waits(owner) else None,
            prune.LOOK_AGAIN if made.delete else None,
        )
        notes = (*made.plan.notes, *prune.notes(removed))
        plan = replace(made.plan, notes=notes, requeue_after=after)
        result = await carry_out(self._context, wanted, lambda _: plan)
        self._told[owner] = (wanted["metadata"].get("uid"), made.told)
        return replace(result, rest=rest(self._context.loop.busy(), len(servers)))

    async def _prune(
        self,
        namespace: str,
        name: str,
        removals: Sequence[prune.Removal],
        servers: Iterable[Server],
    ) -> list[prune.Removal]:
        """Delete what the plan says, once every distribution was planned at least once.

        They are listed before: one that a watch has yet to tell of may want the model.
        """
        if not removals:
            return []
        found = await self._context.kube.list_all(MODEL_DISTRIBUTION, namespace)
        self._context.store.replace_all(
            MODEL_DISTRIBUTION, found.items, found.resource_version, namespace
        )
        everyone = self._context.store.list(MODEL_DISTRIBUTION, namespace)
        if not {(namespace, one["metadata"]["name"]) for one in everyone} <= self._planned:
            return []
        by_name = {server.name: server for server in servers}

        def still(removal: prune.Removal) -> bool:
            asking = living(self._context, MODEL_DISTRIBUTION, namespace, name)
            if asking is None or asking["spec"].get("prune") != "Unlisted":
                return False
            if asking["spec"].get("suspend") or asking["spec"].get("dryRun"):
                return False
            wanted = prune.may_be_wanted(self._wanted.of(namespace), by_name[removal.server])
            return wanted is not None and key(removal.model) not in wanted

        return await self._pruning.carry_out(namespace, removals, still)

    async def _ask(
        self,
        spec: ModelDistributionSpec,
        models: set[str],
        judged: bool,
        since: datetime | None,
    ) -> dict[str, RegistryFact]:
        """What the registry says; OllamaNodes hear of what models turn out to share."""
        known = len(self._facts.layers)
        found = await self._facts.of(spec.source, models, judged, since)
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
