"""What the controllers of Kubernetes say of pods that they cannot make."""

import logging
from collections.abc import Collection

from ollama_fleet.kube import Kube, KubeError, Object
from ollama_fleet.kube.kinds import EVENT
from ollama_fleet.plan.creation import missing

log = logging.getLogger(__name__)


async def events_about(
    kube: Kube, workload: Object | None, pods: Collection[Object]
) -> tuple[Object, ...]:
    """The Events about a workload that lacks pods; nothing is read of any other.

    Empty where they cannot be read: a reconcile goes on without.
    """
    if workload is None or not missing(workload, pods):
        return ()
    meta = workload["metadata"]
    try:
        about = f"regarding.uid={meta['uid']}"
        return tuple(await kube.list(EVENT, meta["namespace"], field_selector=about))
    except KubeError as error:
        log.warning("why %s/%s lacks pods: %s", meta["namespace"], meta["name"], error)
        return ()
