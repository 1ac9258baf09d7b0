"""Carrying out a plan: apply what differs, report the status, write Events."""

import hashlib
import json
import logging
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from ollama_fleet.api.model import LABEL_PREFIX
from ollama_fleet.controllers.context import Context
from ollama_fleet.kube import Invalid, KubeError, NotFound, Object, kind_of
from ollama_fleet.kube.errors import Conflict, Forbidden
from ollama_fleet.plan.drain import GRACE
from ollama_fleet.plan.result import Plan

log = logging.getLogger(__name__)

APPLIED = LABEL_PREFIX + "applied"

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
    """An object cannot be had, and only the user can change that; `remedy` says how."""

    def __init__(self, told: str, remedy: str = "Correct the spec.") -> None:
        super().__init__(told)
        self.remedy = remedy


class NotYetError(Exception):
    """An object cannot be had for the moment, which passes by itself."""


async def apply(context: Context, plan: Plan) -> bool:
    """Make the plan's objects so, and delete what it gives up; whether anything was written.

    What is as it should be already is not written again. Raises RefusedError where the API
    server calls an object invalid or forbidden by policy, or where its name is somebody else's,
    NotYetError where it has yet to learn of the owner's kind, KubeError for all else.
    """
    written = [await _apply(context, wanted) for wanted in plan.apply]
    for gone in plan.delete:
        meta = gone["metadata"]
        await context.kube.delete(kind_of(gone), meta["name"], meta["namespace"], uid=meta["uid"])
    for pod in plan.hasten:
        await hasten(context, pod)
    return any(written)


async def hasten(context: Context, pod: Object) -> None:
    """End the sleep of a pod that is on its way out and has nothing left to do."""
    meta = pod["metadata"]
    log.info("%s/%s has no request left and stops", meta["namespace"], meta["name"])
    await context.kube.delete(
        kind_of(pod), meta["name"], meta["namespace"], uid=meta["uid"], grace_seconds=GRACE
    )


async def change(context: Context, plan: Plan) -> dict[str, str]:
    """Set fields in objects that others made; the names of those refused, with Kubernetes' words.

    An object that has changed meanwhile or is gone is left alone: the watch tells of it.
    """
    refused = {}
    for wanted in plan.change:
        meta = wanted["metadata"]
        patch = {
            "metadata": {"resourceVersion": meta["resourceVersion"]},
            "spec": wanted["spec"],
        }
        try:
            changed = await context.kube.patch(
                kind_of(wanted), meta["name"], meta["namespace"], patch
            )
        except (Forbidden, Invalid) as error:
            refused[meta["name"]] = error.message
        except (Conflict, NotFound):
            continue
        else:
            context.store.put(changed)
    return refused


async def report(context: Context, owner: Object, plan: Plan) -> None:
    """Write the status where it differs, then the Events that tell of the change."""
    if owner.get("status") != plan.status:
        applied = await context.kube.apply_status({**owner, "status": plan.status})
        context.store.put(applied)
    for note in plan.notes:
        await context.kube.event(owner, type=note.type, reason=note.reason, message=note.message)


async def _apply(context: Context, wanted: Object) -> bool:
    wanted = marked(wanted)
    meta = wanted["metadata"]
    live = context.store.get(kind_of(wanted), meta["namespace"], meta["name"])
    if live is not None and covers(live, wanted):
        return False
    await _refuse_theirs(context, wanted, live)
    try:
        applied = await context.kube.apply(wanted)
    except Invalid as error:
        raise RefusedError(f"{wanted['kind']} {meta['name']}: {error.message}") from error
    except KubeError as error:
        told = f"{wanted['kind']} {meta['name']}: {error.message}"
        # webhooks, as those of Ingress controllers, answer 400 or 403 as they please
        if "exceeded quota" in error.message or "denied the request" in error.message:
            raise RefusedError(told) from error
        if "cannot find RESTMapping" in error.message:
            raise NotYetError(
                f"{wanted['kind']} {meta['name']} waits until the API server has learnt of its "
                "owner's kind, which takes half a minute after that is installed"
            ) from error
        if "field not declared in schema" in error.message:
            newer = f"install a newer definition of {wanted['kind']}, as this cluster's lacks that"
            raise RefusedError(f"{told}: {newer}") from error
        raise
    context.store.put(applied)
    return True


async def _refuse_theirs(context: Context, wanted: Object, live: Object | None) -> None:
    """Raise RefusedError where the name is that of an object made for something else, which
    server-side apply would take away."""
    kind, meta = kind_of(wanted), wanted["metadata"]
    name = meta["name"]
    if live is not None and not meta.get("ownerReferences"):
        return  # a mark on what belongs to one of ours, such as a server's pod
    if live is None:
        named = f"metadata.name={name}"
        found = await context.kube.list(kind, meta["namespace"], field_selector=named)
        live = next(iter(found), None)
    if live is None or made_for_the_same(live, wanted):
        return
    remedy = f"Delete that {kind}, or give this resource another name."
    raise RefusedError(f"{kind} {name} is there already, and not of this resource", remedy)


def made_for_the_same(live: Object, wanted: Object) -> bool:
    """Whether both are of one resource: ``live`` has the labels, or an owner of the same name."""
    mine, other = wanted["metadata"], live["metadata"]
    if (mine.get("labels") or {}).items() <= (other.get("labels") or {}).items():
        return True
    owners = {(one["kind"], one["name"]) for one in other.get("ownerReferences") or ()}
    return any((one["kind"], one["name"]) in owners for one in mine.get("ownerReferences") or ())


def marked(wanted: Object) -> Object:
    """The object with a digest of itself as an annotation.

    Where the live object's differs, something was wanted that is wanted no longer, which its
    presence alone would not show: another manager may have put it there.
    """
    gist = {**wanted, "spec": {**wanted.get("spec", {}), "volumeClaimTemplates": None}}
    digest = hashlib.sha256(json.dumps(gist, sort_keys=True).encode()).hexdigest()[:16]
    annotations = {**wanted["metadata"].get("annotations", {}), APPLIED: digest}
    return {**wanted, "metadata": {**wanted["metadata"], "annotations": annotations}}


def covers(live: Any, wanted: Any) -> bool:
    """Whether ``live`` has everything ``wanted`` says; what the API server filled in is ignored."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            covers(live.get(key), value)
            or (value in ({}, [], "") and key not in live)
            or (value == [] and live[key] is None)  # so a Role without rules is shown
            for key, value in wanted.items()
        )
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(covers(one, other) for one, other in zip(live, wanted, strict=True))
        )
    return bool(live == wanted) or _same_quantity(live, wanted)


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
