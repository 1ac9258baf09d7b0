"""When a server that is to stop has nothing left to do.

A pod that is deleted sleeps in its preStop hook for the whole of update.drainTimeout, so its
streams finish even if nobody looks. Where all is known to be done earlier, the pod is deleted once
more with a short grace period, which ends the sleep.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ollama_fleet.api.servers import DRAINING_LABEL
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.servers import Probe, probe_url

GRACE = 1
"""Seconds of grace for a pod that has nothing left to do."""
LOOK_AGAIN = 1.0
"""Seconds between looks at what routers say of a server on its way out: they tell nobody."""


@dataclass(frozen=True)
class Use:
    """What one router makes of one server."""

    taking: bool
    """Whether new requests may go there."""
    in_flight: int
    models: Mapping[str, int] = field(default_factory=dict)
    """Requests under way by model."""
    wedged: frozenset[str] = frozenset()
    """Models that the server does not answer with any more."""
    heard: frozenset[str] = frozenset()
    """Models that it has answered with lately."""

    @property
    def to_finish(self) -> int:
        """Requests under way that may yet be answered."""
        return self.in_flight - sum(self.models.get(model, 0) for model in self.wedged)


Report = Mapping[str, Use]
"""What a router says of the servers it knows, by URL."""


def wedged_in(reports: Sequence[Report]) -> dict[str, tuple[str, ...]]:
    """Models that servers do not answer with any more, by URL: some router says so, and none has
    heard the contrary, as what one waits for in vain may be at work for another."""
    wedged: dict[str, set[str]] = {}
    for report in reports:
        for url, use in report.items():
            wedged.setdefault(url, set()).update(use.wedged)
    for report in reports:
        for url, use in report.items():
            wedged[url] -= use.heard
    return {url: tuple(sorted(models)) for url, models in wedged.items() if models}


def ending(pod: Object) -> bool:
    """Whether a pod is on its way out, and its server may still be at work."""
    return _sleeps(pod) and any(
        "running" in (container.get("state") or {})
        for container in pod.get("status", {}).get("containerStatuses", ())
    )


def _sleeps(pod: Object) -> bool:
    """Whether a pod is on its way out, and its hook may still wait."""
    meta = pod["metadata"]
    grace = meta.get("deletionGracePeriodSeconds")
    return bool(meta.get("deletionTimestamp")) and (grace is None or grace > GRACE)


def _died(pod: Object) -> bool:
    """Whether a pod's server has ended before its hook has: nothing is waited for any more."""
    known = pod.get("status", {}).get("containerStatuses", ())
    return bool(known) and all("terminated" in (one.get("state") or {}) for one in known)


def drained(
    pods: Iterable[Object],
    probes: Mapping[str, Probe],
    routers: Sequence[Report | None],
    last: bool = False,
) -> tuple[Object, ...]:
    """Those on their way out that have nothing left to do; see ``done``."""
    return tuple(
        pod
        for pod in pods
        if _sleeps(pod) and (_died(pod) or (ending(pod) and done(pod, probes, routers, last)))
    )


def done(
    pod: Object,
    probes: Mapping[str, Probe],
    routers: Sequence[Report | None],
    last: bool,
) -> bool:
    """Whether stopping the pod's server now cuts nobody off.

    ``routers`` are the reports of all routers that could send it requests; None: it did not
    answer, so nothing is known. Without any router only an empty memory shows that nothing runs,
    unless it is the ``last`` of an OllamaNode that is deleted: then nobody is waited for.
    """
    url = probe_url(pod)
    if url is None:
        return True
    if not routers:
        probe = probes.get(url, Probe())
        return last or (probe.last_seen is not None and not probe.resident)
    uses = [report.get(url) if report is not None else Use(True, 0) for report in routers]
    return all(use is None or (not use.taking and use.to_finish <= 0) for use in uses)


def draining_mark(pod: Object, wanted: bool) -> Object:
    """The part of a pod that is ours to say: the label that keeps new requests away, or none."""
    meta = pod["metadata"]
    identity = {key: meta[key] for key in ("name", "namespace", "uid") if key in meta}
    labels = {"labels": {DRAINING_LABEL: ""}} if wanted else {}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": identity | labels}
