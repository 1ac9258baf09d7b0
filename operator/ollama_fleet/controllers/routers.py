"""Routers: kept as they are wanted."""

from dataclasses import replace

from ollama_fleet.api.access import SecretError
from ollama_fleet.api.servers import ROUTER_LABEL
from ollama_fleet.controllers.carryout import NOT_YET, carry_out, fleet_known, living
from ollama_fleet.controllers.context import Context
from ollama_fleet.controllers.fleet import (
    servers_in,
)
from ollama_fleet.controllers.loop import Result
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.stores import Stores
from ollama_fleet.kube import Object
from ollama_fleet.kube.access import read_access
from ollama_fleet.kube.kinds import (
    DEPLOYMENT,
    OLLAMA_NODE,
    POD,
    ROUTER,
    SERVICE,
)
from ollama_fleet.plan import router
from ollama_fleet.plan.result import Plan
from ollama_fleet.plan.troubles import Trouble


class Routers:
    """Keeps routers as Routers want them."""

    def __init__(self, context: Context, probes: Probes, stores: Stores) -> None:
        self._context = context
        self._probes = probes
        self._stores = stores

    async def reconcile(self, namespace: str, name: str) -> Result:
        """Bring one Router's Deployment, Service and status up to date."""
        context = self._context
        wanted = living(context, ROUTER, namespace, name)
        if wanted is None:
            return Result()
        if not fleet_known(context, self._probes, namespace):
            return Result(NOT_YET)
        troubles = await self._secret_troubles(wanted)
        return await carry_out(context, wanted, lambda _: self._look(wanted, troubles))

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
