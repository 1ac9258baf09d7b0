"""The Events that tell of pulls: what begins, ends well or fails together is one Event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ollama_fleet.api.quantity import gib
from ollama_fleet.api.taskstatus import TaskState
from ollama_fleet.plan.result import Note
from ollama_fleet.plan.tasks import RUNNING, Task

_NAMED = 8
"""How many servers an Event names."""


class _Stood(NamedTuple):
    state: TaskState
    attempts: int


@dataclass(frozen=True)
class Told:
    """How tasks stood, by id, when they were last told of."""

    tasks: Mapping[str, _Stood]
    of_all: bool = True
    """Whether of every task: a status shows so many and no more."""

    @classmethod
    def by_status(cls, status: Mapping[str, Any]) -> Told:
        """As an earlier run of the operator has left it."""
        shown = status.get("tasks") or ()
        tasks = {one["id"]: _Stood(one["state"], one.get("attempts") or 0) for one in shown}
        return cls(tasks, not status.get("tasksOmitted"))

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> Told:
        """As they stand now."""
        return cls({task.id: _Stood(task.state, task.attempts) for task in tasks})

    def completed(self, task: Task) -> bool:
        """Whether its pull was under way, and what it was for is installed."""
        before = self.tasks.get(task.id)
        return task.state == "Installed" and before is not None and before.state in RUNNING

    def failed(self, task: Task) -> bool:
        """Whether an attempt has failed since."""
        before = self.tasks.get(task.id)
        if before is None and not self.of_all:
            return False
        return task.failure is not None and task.attempts > (before.attempts if before else 0)


def notes_of(tasks: Iterable[Task], starting: Iterable[Task], told: Told) -> tuple[Note, ...]:
    """The Events for pulls that start, end well, or fail."""
    begun: dict[tuple[str, str], list[str]] = {}
    for task in starting:
        begun.setdefault((task.model, task.why), []).append(task.server.name)
    done: dict[tuple[str, str], list[str]] = {}
    failed: dict[tuple[str, str, str], list[str]] = {}
    for task in tasks:
        if told.completed(task):
            size = f", {gib(task.total)}" if task.total else ""
            done.setdefault((task.model, f"{size}, {task.digest}"), []).append(task.server.name)
        if task.failure is not None and told.failed(task):
            cause = (task.model, str(task.failure.reason), task.failure.message)
            failed.setdefault(cause, []).append(task.server.name)
    return tuple(_notes(begun, done, failed))


def _notes(
    begun: Mapping[tuple[str, str], list[str]],
    done: Mapping[tuple[str, str], list[str]],
    failed: Mapping[tuple[str, str, str], list[str]],
) -> Iterator[Note]:
    for (model, why), names in begun.items():
        yield Note("Normal", "PullStarted", f"pulling {model} to {_servers(names)} ({why})")
    for (model, what), names in done.items():
        told = f"{model} is installed on {_servers(names)}{what}"
        yield Note("Normal", "PullCompleted", told)
    for (model, reason, message), names in failed.items():
        yield Note("Warning", reason, f"{model} on {_servers(names)}: {message}")


def _servers(names: list[str]) -> str:
    more = len(names) - _NAMED
    if more > 0:
        return f"{', '.join(names[:_NAMED])} and {more} more server{'s' if more > 1 else ''}"
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
