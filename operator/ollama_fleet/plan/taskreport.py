"""What a ModelDistribution's status tells of its tasks, and is asked for of them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.taskstatus import ModelDistributionStatus, Progress, Summary, TaskStatus
from ollama_fleet.plan.syncs import Sync
from ollama_fleet.plan.tasks import Failure, Task
from ollama_fleet.plan.times import parsed, rfc3339, span
from ollama_fleet.plan.timetable import Timetable

TASKS_SHOWN = 50
_ORDER = {
    "Failed": 0,
    "Misfit": 1,
    "Verifying": 2,
    "Pulling": 3,
    "Waiting": 4,
    "Paused": 5,
    "Installed": 6,
}


def counted(tasks: Iterable[Task]) -> Summary:
    """Tasks by state."""
    states = [task.state for task in tasks]
    return Summary(
        desired=len(states),
        installed=states.count("Installed"),
        pulling=states.count("Pulling") + states.count("Verifying"),
        waiting=states.count("Waiting") + states.count("Paused"),
        failed=states.count("Failed"),
        misfit=states.count("Misfit"),
        drifted=sum(task.drifted for task in tasks),
    )


def status_of(
    tasks: list[Task], previous: Mapping[str, Any], when: Timetable, sync: Sync, now: datetime
) -> dict[str, Any]:
    """The status to write, but for its conditions."""
    before = {one["id"]: one for one in previous.get("tasks") or ()}
    shown = sorted(tasks, key=lambda task: (_ORDER[task.state], task.server.name, task.model))
    return ModelDistributionStatus(
        summary=counted(tasks),
        progress=_progress(tasks),
        tasks=[_task_status(task, before.get(task.id, {}), now) for task in shown[:TASKS_SHOWN]],
        tasks_omitted=max(0, len(shown) - TASKS_SHOWN),
        next_window=rfc3339(when.next_window) if when.next_window else None,
        next_sync=rfc3339(when.next_sync) if when.next_sync else None,
        last_sync=rfc3339(sync.last) if sync.last else None,
        outdated=sync.wire(),
    ).wire()


def failures_from_status(status: Mapping[str, Any], generation: int) -> dict[str, Failure]:
    """Failures as status tells them; none once the spec has changed, which starts afresh."""
    if status.get("observedGeneration") != generation:
        return {}
    found = {}
    for task in status.get("tasks") or ():
        at = parsed(task.get("failedAt"))
        if at is not None:
            found[task["id"]] = Failure(
                at,
                task.get("attempts") or 0,
                _reason(task.get("errorReason")),
                task.get("error") or "",
            )
    return found


def _progress(tasks: Iterable[Task]) -> Progress:
    known = [task for task in tasks if task.total]
    total = sum(task.total or 0 for task in known)
    completed = sum(min(task.completed or 0, task.total or 0) for task in known)
    speed = sum(task.speed or 0 for task in known)
    left = total - completed
    return Progress(
        completed_bytes=completed,
        total_bytes=total,
        bytes_per_second=speed,
        percent=f"{completed * 100 // total}%" if total else None,
        eta=span(left / speed) if speed and left else None,
    )


def _task_status(task: Task, before: Mapping[str, Any], now: datetime) -> TaskStatus:
    failure = task.failure if task.state != "Installed" else None
    made = TaskStatus(
        id=task.id,
        server=task.server.name,
        model=task.model,
        state=task.state,
        reason=str(task.reason) if task.reason else None,
        progress=_fraction(task),
        completed_bytes=task.completed,
        total_bytes=task.total,
        bytes_per_second=task.speed,
        digest=task.digest,
        drifted=task.drifted or None,
        wanted_digest=task.wanted,
        attempts=task.attempts,
        error=failure.message[:512] if failure else None,
        error_reason=str(failure.reason) if failure else None,
        failed_at=rfc3339(failure.at) if failure else None,
        next_attempt_at=rfc3339(task.next_attempt) if task.next_attempt else None,
        created_at=before.get("createdAt") or rfc3339(now),
        updated_at=before.get("updatedAt"),
        message=(task.message or task.why)[:1024],
    )
    if _gist(made.wire()) == _gist(before):
        return made
    return made.model_copy(update={"updated_at": rfc3339(now)})


def _gist(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task without what changes by the passing of time alone."""
    return {key: value for key, value in task.items() if key not in ("updatedAt", "message")}


def _fraction(task: Task) -> float:
    if task.state == "Installed":
        return 1.0
    if not task.total:
        return 0.0
    return round(min(1.0, (task.completed or 0) / task.total), 4)


def _reason(text: object) -> Reason:
    try:
        return Reason(str(text))
    except ValueError:
        return Reason.PULL_FAILED
