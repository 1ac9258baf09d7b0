"""Routers: kept as they are wanted."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from pydantic import ValidationError

from ollama_fleet.api.access import SecretError
from ollama_fleet.api.router import RouterSpec
from ollama_fleet.api.servers import ROUTER_LABEL
from ollama_fleet.controllers.carryout import NOT_YET, carry_out, fleet_known, living, refusal
from ollama_fleet.controllers.context import Context
from ollama_fleet.controllers.feed import MANAGED
from ollama_fleet.controllers.loop import Result
from ollama_fleet.controllers.pace import rest
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.servers import Servers
from ollama_fleet.kube import Kube, NotFound, Object
from ollama_fleet.kube.access import read_access, read_certificate, read_good_clients
from ollama_fleet.kube.errors import Forbidden
from ollama_fleet.kube.kinds import (
    DEPLOYMENT,
    HTTP_ROUTE,
    INGRESS,
    OLLAMA_NODE,
    POD,
    ROUTER,
    SERVICE,
)
from ollama_fleet.plan import router
from ollama_fleet.plan.entrances import NO_SUCH_KIND
from ollama_fleet.plan.result import Plan
from ollama_fleet.plan.troubles import Trouble

ENTRANCES = {INGRESS: "ingress", HTTP_ROUTE: "httpRoute"}
"""Kinds that lead to a router from outside, and the field of its spec that asks for one."""

_Read = Callable[[Kube, str], Awaitable[object]]


class Routers:
    """Keeps routers as Routers want them."""

    def __init__(self, context: Context, probes: Probes, servers: Servers) -> None:
        self._context = context
        self._probes = probes
        self._servers = servers

    async def reconcile(self, namespace: str, name: str) -> Result:
        """Bring one Router's Deployment, Service and status up to date."""
        context = self._context
        wanted = living(context, ROUTER, namespace, name)
        if wanted is None:
            return Result()
        if not fleet_known(context, self._probes, namespace):
            return Result(NOT_YET)
        if (refused := refusal(context, wanted, RouterSpec)) is not None:
            return await carry_out(context, wanted, lambda _: refused)
        troubles = await self._secret_troubles(wanted)
        unread = await self._unread(wanted)
        planned = 0

        def look(_: Mapping[str, str]) -> Plan:
            nonlocal planned
            plan, planned = self._look(wanted, troubles, unread)
            return plan

        result = await carry_out(context, wanted, look)
        return replace(result, rest=rest(context.loop.busy(), planned))

    def _look(
        self, wanted: Object, troubles: tuple[Trouble, ...], unread: Mapping[str, str]
    ) -> tuple[Plan, int]:
        """The plan, and with how many servers it was made."""
        context = self._context
        namespace, name = wanted["metadata"]["namespace"], wanted["metadata"]["name"]
        spec = RouterSpec.model_validate(wanted["spec"])
        means = partial(router.selects, spec.select)
        observed = router.Observed(
            deployment=context.store.get(DEPLOYMENT, namespace, f"{name}-router"),
            service=context.store.get(SERVICE, namespace, name),
            pods=tuple(context.store.list(POD, namespace, {ROUTER_LABEL: name})),
            servers=tuple(self._servers.of(namespace, means)),
            ollamanodes=tuple(context.store.list(OLLAMA_NODE, namespace)),
            secret_troubles=troubles,
            entrances=tuple(
                one
                for kind in ENTRANCES
                for one in context.store.list(kind, namespace, {ROUTER_LABEL: name})
            ),
            unread=unread,
        )
        settings = context.settings
        program = router.Program(
            settings.image, settings.router_cluster_role, settings.router_role, settings.console
        )
        plan = router.plan_router(wanted, observed, program, context.clock.now())
        if not (router.backend_secrets(wanted["spec"]) or router.own_secrets(spec) or unread):
            return plan, len(observed.servers)
        plan = replace(plan, requeue_after=context.settings.probe_interval)
        return plan, len(observed.servers)

    async def _secret_troubles(self, wanted: Object) -> tuple[Trouble, ...]:
        kube, namespace = self._context.kube, wanted["metadata"]["namespace"]
        reads: list[_Read] = [
            partial(read_access, refs=refs) for refs in router.backend_secrets(wanted["spec"])
        ]
        found = []
        for read in (*reads, *_own_reads(wanted)):
            try:
                await read(kube, namespace)
            except SecretError as error:
                found.append(Trouble(error.reason, str(error)))
        return tuple(found)

    async def _unread(self, wanted: Object) -> dict[str, str]:
        """Why the kinds that it wants an object of, or has one of, cannot be had.

        What was not there when the operator started is not watched, so it is listed here: whoever
        installs it meanwhile need not restart the operator.
        """
        context, unread = self._context, {}
        meta = wanted["metadata"]
        for kind, field in ENTRANCES.items():
            mine = context.store.list(kind, meta["namespace"], {ROUTER_LABEL: meta["name"]})
            if kind not in context.store.unread or not (wanted["spec"].get(field) or mine):
                continue
            try:
                found = await context.kube.list_all(kind, meta["namespace"], MANAGED)
            except NotFound:
                unread[kind.kind] = NO_SUCH_KIND
            except Forbidden as error:
                unread[kind.kind] = error.message
            else:
                version = found.resource_version
                context.store.replace_all(kind, found.items, version, meta["namespace"])
        return unread


def _own_reads(wanted: Object) -> Iterator[_Read]:
    try:
        spec = RouterSpec.model_validate(wanted["spec"])
    except ValidationError:
        return  # the plan says so
    if spec.auth and spec.auth.keys_secret_ref:
        yield partial(read_good_clients, name=spec.auth.keys_secret_ref.name)
    if spec.tls:
        yield partial(read_certificate, name=spec.tls.secret_name)
