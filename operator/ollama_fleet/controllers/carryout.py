"""From a plan to the cluster and its status; what every reconciler does the same way."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from pydantic import BaseModel, ValidationError

from ollama_fleet.api.conditions import Reason
from ollama_fleet.controllers.act import NotYetError, RefusedError, apply, change, report
from ollama_fleet.controllers.context import Context
from ollama_fleet.controllers.loop import Result
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.kube import Kind, NotFound, Object, kind_of
from ollama_fleet.kube.kinds import OLLAMA_NODE
from ollama_fleet.plan.conditions import Verdict, conditions, transition
from ollama_fleet.plan.result import Plan, soonest

log = logging.getLogger(__name__)

NOT_YET = 0.5
"""Seconds until it is looked again whether a fresh operator has met every server."""

LEARNING = 2.0
"""Seconds until it is tried again to make what belongs to a kind that is new."""

AGAIN = 60.0
"""Seconds until what was refused is tried again: a quota or another's Ingress, which nobody tells
of, may no longer be in the way."""


def living(context: Context, kind: Kind, namespace: str, name: str) -> Object | None:
    """The object, unless it is gone or going."""
    obj = context.store.get(kind, namespace, name)
    return None if obj is None or obj["metadata"].get("deletionTimestamp") else obj


def fleet_known(context: Context, probes: Probes, namespace: str) -> bool:
    """Whether every OllamaNode has been looked at since this operator started.

    Before that, servers that are up would be taken for missing, and status would tell so.
    """
    return all(
        probes.met(f"{namespace}/{node['metadata']['name']}")
        for node in context.store.list(OLLAMA_NODE, namespace)
        if not node["metadata"].get("deletionTimestamp")
    )


async def carry_out(
    context: Context, obj: Object, look: Callable[[Mapping[str, str]], Plan]
) -> Result:
    """Apply what ``look`` plans, and report; it looks again after a change, and is given what
    Kubernetes would not have changed.

    Without the second look, status would call new what was seen of the old.
    """
    try:
        plan = look({})
    except ValidationError as error:
        plan = invalid(context, obj, error)
    try:
        if await _ended(context, obj, plan):
            return Result()
        written = await apply(context, plan)
        refused = await change(context, plan)
        if written or plan.change:
            plan = look(refused)
        await report(context, obj, plan)
    except RefusedError as error:
        verdict = Verdict.stuck(Reason.APPLY_REFUSED, f"{error}. {error.remedy}")
        await report(context, obj, instead(context, obj, plan, verdict))
        return Result(soonest(plan.requeue_after, AGAIN))
    except NotYetError as error:
        await report(context, obj, instead(context, obj, plan, Verdict.underway(str(error))))
        return Result(soonest(plan.requeue_after, LEARNING))
    except NotFound:
        # deleted while it was reconciled: the watch tells
        log.debug("%s is gone", obj["metadata"]["name"])
    return Result(plan.requeue_after)


async def _ended(context: Context, obj: Object, plan: Plan) -> bool:
    """Whether the object is gone or going, which its own watch has yet to tell.

    Asked for only where something would be made: of what belonged to the object, Kubernetes may
    have deleted that already, and another watch was faster.
    """
    if all(
        context.store.get(kind_of(one), one["metadata"]["namespace"], one["metadata"]["name"])
        for one in plan.apply
    ):
        return False
    meta = obj["metadata"]
    named = f"metadata.name={meta['name']}"
    found = await context.kube.list(kind_of(obj), meta["namespace"], field_selector=named)
    return not any(
        one["metadata"]["uid"] == meta["uid"] and "deletionTimestamp" not in one["metadata"]
        for one in found
    )


def invalid(context: Context, obj: Object, error: ValidationError) -> Plan:
    """A spec that an older CRD let through."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in ("spec", *first["loc"]))
    verdict = Verdict.stuck(Reason.INVALID_SPEC, f"{path}: {first['msg']}. Correct it.")
    return instead(context, obj, Plan(status=obj.get("status") or {}), verdict)


def refusal(context: Context, obj: Object, shape: type[BaseModel]) -> Plan | None:
    """What is told of a resource whose spec cannot be read; None where it can."""
    try:
        shape.model_validate(obj.get("spec"))
    except ValidationError as error:
        return invalid(context, obj, error)
    return None


def instead(context: Context, obj: Object, plan: Plan, verdict: Verdict) -> Plan:
    """The plan with that verdict instead of its own, and nothing applied."""
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
