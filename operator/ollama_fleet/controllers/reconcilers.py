"""One reconciler per kind: observe, plan, act, report."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

from pydantic import ValidationError

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.controllers.carryout import NOT_YET, carry_out, fleet_known, invalid, living
from ollama_fleet.controllers.context import Context, Reconcilers
from ollama_fleet.controllers.facts import RegistryFacts
from ollama_fleet.controllers.fleet import (
    servers_in,
)
from ollama_fleet.controllers.fleetmetrics import FleetCollector
from ollama_fleet.controllers.loads import Loads
from ollama_fleet.controllers.loop import Key, Result
from ollama_fleet.controllers.ollamanodes import OllamaNodes
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.pulls import Pulls
from ollama_fleet.controllers.routers import Routers
from ollama_fleet.controllers.stores import Stores
from ollama_fleet.controllers.traffic import Traffic
from ollama_fleet.kube import Object
from ollama_fleet.kube.access import read_access
from ollama_fleet.kube.kinds import (
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    ROUTER,
)
from ollama_fleet.plan import distribution
from ollama_fleet.plan.demands import demands_of
from ollama_fleet.plan.result import soonest
from ollama_fleet.plan.tasks import RegistryFact, Seen, failures_from_status


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
        wanted = living(self._context, MODEL_DISTRIBUTION, namespace, name)
        owner = f"{namespace}/{name}"
        if wanted is None:
            self._pulls.keep(owner, ())
            self._pulls.forgive(owner)
            return Result()
        if not fleet_known(self._context, self._probes, namespace):
            return Result(NOT_YET)
        try:
            spec = ModelDistributionSpec.model_validate(wanted["spec"])
        except ValidationError as error:
            refusal = invalid(self._context, wanted, error)
            return await carry_out(self._context, wanted, lambda _: refusal)
        self._recall(owner, wanted)
        models = distribution.models_named(spec)
        expected = self._expected(spec, namespace)
        seen = Seen(
            registry=await self._ask(spec, models, expected),
            running=self._pulls.running(owner),
            failures=self._pulls.failures(owner),
            arriving=self._pulls.arriving(namespace),
        )
        made = distribution.plan_distribution(
            wanted,
            servers_in(self._context, self._probes, self._stores, namespace),
            expected,
            seen,
            self._context.clock.now(),
            demands_of(self._context.store.list(MODEL_DISTRIBUTION, namespace)),
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
        return await carry_out(self._context, wanted, lambda _: plan)

    async def _ask(
        self, spec: ModelDistributionSpec, models: set[str], judged: bool
    ) -> dict[str, RegistryFact]:
        """What the registry says; OllamaNodes hear of what models turn out to share."""
        known = len(self._facts.layers)
        found = await self._facts.of(spec.source, models, shaped=judged)
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
