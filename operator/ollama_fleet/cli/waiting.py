"""Follows a pull until it has ended: bars on a terminal, lines elsewhere."""

from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import Task
from ollama_fleet.cli.pulling import State, line, quarter, state_of
from ollama_fleet.cli.screen import ACCENT
from ollama_fleet.kube import Forbidden, Kube, KubeError, NotFound, Unauthorized
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION


async def follow(kube: Kube, namespace: str, name: str, model: str, console: Console) -> State:
    """Wait until the pull has ended, however long the operator is away; its last state.

    NotPossible where the ModelDistribution goes; KubeError where it may not be looked at.
    """
    shown: Bars | Lines = Bars(console) if console.is_terminal else Lines(console)
    seen = False

    def told(error: KubeError) -> None:
        if isinstance(error, Forbidden | NotFound | Unauthorized):
            raise error
        shown.note(f"still trying: {error}")

    with shown.screen():
        watch = kube.watch(MODEL_DISTRIBUTION, namespace, on_error=told)
        async with aclosing(watch) as events:
            async for event in events:
                obj = event.object
                if event.type != "SYNCED" and obj["metadata"]["name"] != name:
                    continue
                if event.type == "DELETED" or (event.type == "SYNCED" and not seen):
                    raise NotPossible(f"ModelDistribution {name} was deleted: pull again")
                if event.type == "SYNCED":
                    continue
                seen = True
                state = state_of(obj, model)
                shown.show(state)
                if state.ended:
                    return state
    raise NotPossible(f"ModelDistribution {name} cannot be watched")


@dataclass
class Lines:
    """A line for each thing that happens."""

    console: Console
    _told: dict[str, tuple[str, int]] = field(default_factory=dict)
    _note: str = ""

    def screen(self) -> AbstractContextManager[object]:
        """Nothing to set up."""
        return nullcontext()

    def note(self, text: str) -> None:
        """Say something, unless that was said last."""
        if text and text != self._note:
            self.console.print(text, soft_wrap=True)
            self._note = text

    def show(self, state: State) -> None:
        """Say what is new."""
        self.note(state.waiting)
        for task in state.tasks:
            now = (task.state, quarter(task))
            if self._told.get(task.server[1]) != now and not state.problems:
                self.console.print(line(task), soft_wrap=True)
                self._told[task.server[1]] = now


@dataclass
class Bars:
    """A bar for each server."""

    console: Console
    _bars: dict[str, TaskID] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(20, complete_style=ACCENT, finished_style=ACCENT),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[state]}"),
            console=self.console,
        )

    def screen(self) -> AbstractContextManager[object]:
        """Draw while inside."""
        return self._progress

    def note(self, text: str) -> None:
        """Say something above the bars."""
        if text:
            self._progress.console.print(text, soft_wrap=True)

    def show(self, state: State) -> None:
        """Move the bars."""
        for task in state.tasks:
            server = task.server[1]
            if server not in self._bars:
                self._bars[server] = self._progress.add_task(server, state="", total=None)
            self._move(self._bars[server], task)

    def _move(self, bar: TaskID, task: Task) -> None:
        done = task.state == "Installed"
        total = task.status.get("totalBytes")
        completed = total if done else task.status.get("completedBytes")
        self._progress.update(bar, total=total, completed=completed or 0, state=task.state.lower())
