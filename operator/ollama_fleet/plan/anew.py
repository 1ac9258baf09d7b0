"""Beginning anew with what was given up, when people ask for it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ollama_fleet.api.model import LABEL_PREFIX
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.tasks import Failure
from ollama_fleet.plan.times import parsed, rfc3339

RETRY_AT = LABEL_PREFIX + "retry-at"
"""On a ModelDistribution: failures from before this moment count no more, once it has come."""


def asked(distribution: Object) -> datetime | None:
    """The moment people named, if any."""
    return parsed((distribution["metadata"].get("annotations") or {}).get(RETRY_AT))


def counting(
    failures: Mapping[str, Failure], moment: datetime | None, now: datetime
) -> dict[str, Failure]:
    """Failures, by task, as they count: those from before the ``moment`` are no attempts any more.

    They stay, as the next pull may still have to bring another digest. Status tells times to the
    second, so that is how they are compared: it comes out the same after a restart.
    """
    if moment is None or moment > now:
        return dict(failures)
    return {
        task: replace(failure, attempts=0, losses=0)
        if failure.at.replace(microsecond=0) < moment
        else failure
        for task, failure in failures.items()
    }


def begins(distribution: Object, task: Mapping[str, Any]) -> bool:
    """Whether a task of its status that was given up is to be tried again; ones that never were a
    pull are told by the operator alone."""
    moment, failed = asked(distribution), parsed(task.get("failedAt"))
    if task["state"] != "Failed" or moment is None or failed is None:
        return False
    return bool(task.get("attempts")) and failed < moment


def change(distribution: Object, now: datetime) -> dict[str, Any]:
    """The merge patch that has all that was given up tried again.

    It names the second after the latest failure rather than ``now``, which only the operator's own
    clock is sure to agree with; ``now`` where none failed as a pull.
    """
    tasks = (distribution.get("status") or {}).get("tasks") or ()
    failed = [parsed(one.get("failedAt")) for one in tasks if one["state"] == "Failed"]
    times = [at.replace(microsecond=0) + timedelta(seconds=1) for at in failed if at is not None]
    moment = max(times) if times and len(times) == len(failed) else now
    return {"metadata": {"annotations": {RETRY_AT: rfc3339(moment)}}}
