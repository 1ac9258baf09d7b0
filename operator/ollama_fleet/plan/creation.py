"""Why the pods of a workload cannot be made: its controller says so in Events alone."""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.rollout import seen
from ollama_fleet.plan.times import elapsed, parsed
from ollama_fleet.plan.troubles import Trouble

RETRIED = timedelta(minutes=20)
"""Kubernetes' controllers try again at least every 1000 s: what is older is over."""
MENDED = timedelta(minutes=1)
"""How long a change of the spec is given to be what the next pods are made by."""
SOON, LATER = 3.0, 60.0
"""Seconds between looks at the Events, which grow with the time that pods have been missing."""


def missing(workload: Object | None, pods: Collection[Object]) -> int:
    """How many pods a workload lacks; 0 before its status speaks of its newest spec."""
    if workload is None or not seen(workload):
        return 0
    status = workload.get("status") or {}
    replicas = (workload.get("spec") or {}).get("replicas")
    wanted = status.get("desiredNumberScheduled", 0) if replicas is None else replicas
    return max(0, int(wanted) - len(pods))


def look_again(conditions: Iterable[Mapping[str, Any]], now: datetime) -> float:
    """Seconds until the Events are worth another look: as long again as it is not Ready."""
    ready = next((one for one in conditions if one["type"] == "Ready"), None)
    since = parsed(ready["lastTransitionTime"]) if ready and ready["status"] == "False" else now
    waited = (now - (since or now)).total_seconds()
    return min(LATER, max(SOON, waited))


def mended(conditions: Iterable[Mapping[str, Any]], now: datetime) -> datetime | None:
    """When the resource ceased to be Stalled, if that was just now."""
    stalled = next((one for one in conditions if one["type"] == "Stalled"), None)
    since = parsed(stalled["lastTransitionTime"]) if stalled else None
    recent = since is not None and elapsed(since, now) <= MENDED
    return since if stalled and stalled["status"] == "False" and recent else None


def refusal(
    namespace: str,
    events: Iterable[Object],
    pods: Iterable[Object],
    now: datetime,
    since: datetime | None = None,
) -> Trouble | None:
    """The newest refusal that the Events about a workload tell of, with the remedy.

    None where it is over, as a pod was made since, or will pass by itself; up to ``since`` they
    tell of an older spec.
    """
    failures: list[tuple[datetime, str]] = []
    made = [parsed(pod["metadata"].get("creationTimestamp")) for pod in pods]
    for event in events:
        at = _last(event)
        if event.get("reason") == "FailedCreate" and at is not None:
            failures.append((at, event.get("note") or ""))
        elif event.get("reason") == "SuccessfulCreate":
            made.append(at)
    if not failures:
        return None
    at, note = max(failures)
    if now - at > RETRIED or (since is not None and at <= since):
        return None
    if any(one is not None and one > at for one in made):
        return None
    return _trouble(namespace, note)


def _last(event: Object) -> datetime | None:
    times = (
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return next((moment for text in times if (moment := parsed(text)) is not None), None)


_FORBIDDEN = re.compile(r"(is forbidden|is invalid): ")
_LEAD = re.compile(r"^.*?(Error creating|failed error): ")

_QUOTA = re.compile(r"exceeded quota: (?P<name>[^,]+), requested: (?P<asked>.*?), used: ")

_CAUSES = (
    (
        r"failed quota: (?P<name>[^:]+): must specify",
        "ResourceQuota {name} asks this of every pod: write it in spec.resources.",
    ),
    (
        r"no PriorityClass with name (?P<name>\S+) was found",
        "Create PriorityClass {name}, or correct spec.template.priorityClassName.",
    ),
    (
        r'serviceaccount "(?P<name>[^"]+)" not found',
        "Create it (kubectl -n {namespace} create serviceaccount {name}), or correct "
        "spec.template.serviceAccountName.",
    ),
    (
        r'RuntimeClass "(?P<name>[^"]+)" not found',
        "Create RuntimeClass {name}, or correct spec.template.runtimeClassName.",
    ),
    (
        r"violates PodSecurity .*hostPath",
        "Write spec.storage.size or existingClaim in place of hostPath, or allow it: kubectl "
        "label namespace {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite",
    ),
    (
        r"violates PodSecurity",
        "Correct spec.template.securityContext, or allow it: kubectl label namespace {namespace} "
        "pod-security.kubernetes.io/enforce=baseline --overwrite",
    ),
    (
        r"(maximum|minimum) .* per (Container|Pod) |max limit to request ratio",
        "That is a LimitRange of namespace {namespace}: change spec.resources to fit it, or it.",
    ),
    (
        r"failed calling webhook",
        "Whoever runs that webhook must mend it, or take it away.",
    ),
    (
        r"denied( the)? request",
        "Change the spec to what that policy asks for, or have it let these pods through.",
    ),
    (r"is being terminated", "Wait until that has ended, and make the namespace anew."),
)


def _trouble(namespace: str, note: str) -> Trouble | None:
    """None for an error that is no refusal, such as a time-out: it is tried again."""
    forbidden = _FORBIDDEN.search(note)
    # without the pod's name, which is another one in the next Event
    said = note[forbidden.end() :] if forbidden else _LEAD.sub("", note)
    if quota := _QUOTA.search(said):
        lower = _lower(quota["asked"])
        remedy = f"Raise it (kubectl -n {namespace} edit resourcequota {quota['name']}), or {lower}"
        return _told(Reason.QUOTA_EXCEEDED, said, f"{remedy}.")
    for pattern, remedy in _CAUSES:
        if found := re.search(pattern, said):
            told = remedy.format(namespace=namespace, **found.groupdict())
            return _told(Reason.POD_FORBIDDEN, said, told)
    if forbidden:
        return _told(Reason.POD_FORBIDDEN, said, "Correct the spec.")
    return None


def _lower(asked: str) -> str:
    """What in the spec makes a server ask for less."""
    if "storage" in asked or "persistentvolumeclaims" in asked:
        return "lower spec.storage.size, or have fewer servers"
    if "memory" in asked or "cpu" in asked:
        return "lower spec.resources, or have fewer servers"
    return "have fewer servers"


def _told(reason: Reason, said: str, remedy: str) -> Trouble:
    return Trouble(reason, f"Kubernetes makes no pod: {said.rstrip('.')[:1500]}. {remedy}")
