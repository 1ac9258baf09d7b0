"""Carrying out a plan: apply what differs, report the status, write Events."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from ollama_fleet.controllers.context import Context
from ollama_fleet.kube import Invalid, KubeError, Object, kind_of
from ollama_fleet.plan.result import Plan

_SUFFIXES = {
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
}


class RefusedError(Exception):
    """The API server will not have an object; only the user can change that."""


async def act(context: Context, owner: Object, plan: Plan) -> None:
    """Make the plan's objects so, report its status, and write its Events.

    What is as it should be already is not written again. Raises RefusedError where the API
    server calls an object invalid or forbidden by policy, KubeError for all else.
    """
    for wanted in plan.apply:
        await _apply(context, wanted)
    await report(context, owner, plan)


async def report(context: Context, owner: Object, plan: Plan) -> None:
    """Write the status where it differs, then the Events that tell of the change."""
    if owner.get("status") != plan.status:
        applied = await context.kube.apply_status({**owner, "status": plan.status})
        context.store.put(applied)
    for note in plan.notes:
        await context.kube.event(owner, type=note.type, reason=note.reason, message=note.message)


async def _apply(context: Context, wanted: Object) -> None:
    meta = wanted["metadata"]
    live = context.store.get(kind_of(wanted), meta["namespace"], meta["name"])
    if live is not None and covers(live, wanted) and not _left_over(live, wanted):
        return
    try:
        applied = await context.kube.apply(wanted)
    except Invalid as error:
        raise RefusedError(f"{wanted['kind']} {meta['name']}: {error.message}") from error
    except KubeError as error:
        if error.status == 403 and "exceeded quota" in error.message:
            raise RefusedError(f"{wanted['kind']} {meta['name']}: {error.message}") from error
        raise
    context.store.put(applied)


def covers(live: Any, wanted: Any) -> bool:
    """Whether ``live`` has everything ``wanted`` says; what the API server filled in is ignored."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            covers(live.get(key), value) or (value in ({}, [], "") and key not in live)
            for key, value in wanted.items()
        )
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(covers(one, other) for one, other in zip(live, wanted, strict=True))
        )
    return bool(live == wanted) or _same_quantity(live, wanted)


_OPTIONAL = (
    "affinity",
    "nodeSelector",
    "topologySpreadConstraints",
    "priorityClassName",
    "runtimeClassName",
    "imagePullSecrets",
)


def _left_over(live: Object, wanted: Object) -> bool:
    """Whether a pod template still has an optional field that is wanted no longer."""
    template = wanted.get("spec", {}).get("template", {})
    if not template:
        return False
    wanted_pod, live_pod = template["spec"], live["spec"]["template"]["spec"]
    if any(name in live_pod and name not in wanted_pod for name in _OPTIONAL):
        return True
    live_meta = live["spec"]["template"]["metadata"]
    for name in ("labels", "annotations"):
        extra = set(live_meta.get(name) or ()) - set(template["metadata"].get(name) or ())
        if any("kubectl.kubernetes.io/" not in key for key in extra):
            return True
    wanted_selector = wanted_pod.get("nodeSelector") or {}
    if set(live_pod.get("nodeSelector") or ()) - set(wanted_selector):
        return True
    for one, other in zip(wanted_pod["containers"], live_pod["containers"], strict=False):
        for kind in ("requests", "limits"):
            asked = one.get("resources", {}).get(kind) or {}
            has = other.get("resources", {}).get(kind) or {}
            # the API server sets the requests of what has a limit alone
            implied = one.get("resources", {}).get("limits") or {} if kind == "requests" else {}
            if set(has) - set(asked) - set(implied):
                return True
    return False


def _same_quantity(live: object, wanted: object) -> bool:
    if not isinstance(live, (str, int)) or not isinstance(wanted, (str, int)):
        return False
    if isinstance(live, bool) or isinstance(wanted, bool):
        return False
    one, other = _number(str(live)), _number(str(wanted))
    return one is not None and one == other


def _number(text: str) -> Decimal | None:
    unit = text[-2:] if text[-2:] in _SUFFIXES else text[-1:]
    factor = _SUFFIXES.get(unit)
    try:
        return Decimal(text[: -len(unit)]) * factor if factor else Decimal(text)
    except InvalidOperation:
        return None
