"""What the log tells of pulls as they go on."""

import logging

from ollama_fleet.console.tasks import tasks_of
from ollama_fleet.console.wire import Task
from ollama_fleet.kube import Kind, Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION

log = logging.getLogger(__name__)


def tell(kind: Kind, before: Object | None, after: Object | None) -> None:
    """A line for each pull that starts, ends or fails between two looks at a distribution."""
    if kind != MODEL_DISTRIBUTION or after is None:
        return
    was = {task.id: task for task in tasks_of(before)} if before else {}
    for task in tasks_of(after):
        for line in lines(was.get(task.id), task):
            log.info("%s", line)


def lines(before: Task | None, task: Task) -> list[str]:
    """What has happened to a task."""
    status = before.status if before else "pending"
    if status == task.status:
        return []
    about = f"{task.model_name} on agent {task.agent_id}"
    if task.status == "downloading":
        return [f"pull started: {about}, task {task.id}"]
    if task.status == "completed":
        return [f"pull completed: {about}", f"task completed: {task.id}"]
    if task.status == "failed":
        return [f"failed to send pull to agent {task.agent_id}: {task.error}"]
    return []
