"""What the demo prints: one voice, aligned, live on a terminal and line by line elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

ACCENT = "cyan"
_LABEL, _WIDTH = 17, 96


@dataclass
class Screen:
    """Where the demo prints."""

    console: Console = field(
        default_factory=lambda: Console(highlight=False, soft_wrap=True, emoji=False)
    )

    @classmethod
    def recorded(cls) -> Self:
        """A screen that can be drawn afterwards."""
        return cls(Console(highlight=False, emoji=False, record=True, width=_WIDTH + 14))

    @property
    def live(self) -> bool:
        """Whether somebody watches on a terminal."""
        return self.console.is_terminal and not self.console.record

    def picture(self, title: str) -> str:
        """What was shown, as an SVG that needs nothing from elsewhere."""
        drawn = self.console.export_svg(title=title)
        return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)

    def title(self, text: str) -> None:
        """The first line."""
        self.console.print(text, style="bold", markup=False)

    def line(self, label: str, text: str, seconds: float | None = None) -> None:
        """A step that has happened, with the time it took."""
        shown = f"  {label:<{_LABEL}}{text}"
        if seconds is not None:
            shown = f"{shown:<{_WIDTH - 8}}{seconds:6.1f} s"
        self.console.print(shown, markup=False)

    def more(self, text: str) -> None:
        """A further line of the step before."""
        self.line("", text)

    def blank(self) -> None:
        """An empty line."""
        self.console.print()

    @contextmanager
    def pulls(self) -> Iterator[Pulls]:
        """A table of pulls that moves while they run."""
        table = Pulls(self)
        if not self.live:
            yield table
            return
        with Live(table.render(), console=self.console, refresh_per_second=8) as live:
            table.on_change = lambda: live.update(table.render())
            yield table
            live.update(table.render())


@dataclass
class Pulls:
    """Tasks of the fleet as ModelDistributions report them."""

    screen: Screen
    memory: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    on_change: Any = None
    _told: set[str] = field(default_factory=set)

    def show(self, tasks: list[Mapping[str, Any]], memory: Mapping[str, str]) -> None:
        """The tasks as they are now."""
        self.memory.update(memory)
        self.tasks = {task["id"]: task for task in tasks}
        if self.on_change is not None:
            self.on_change()
            return
        for task in self._ordered():
            if task["state"] == "Installed" and task["id"] not in self._told:
                if not self._told:
                    self.screen.console.print(_row("server", "memory", "model", "why", ""))
                self._told.add(task["id"])
                size = _size(task.get("totalBytes", 0))
                self.screen.console.print(_row(*self._cells(task), f"{size:>8}  done"))

    def render(self) -> Table:
        """The table with its bars."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=16)
        for _ in range(5):
            grid.add_column(no_wrap=True)
        grid.add_row(*(Text(f"  {name}" if name == "server" else name) for name in _HEAD), "", "")
        for task in self._ordered():
            done = task["state"] == "Installed"
            bar = ProgressBar(
                total=1.0,
                completed=task["progress"],
                width=20,
                complete_style=ACCENT,
                finished_style=ACCENT,
            )
            server, memory, model, why = self._cells(task)
            told = f"{_size(task.get('totalBytes', 0)):>8}  done" if done else _underway(task)
            grid.add_row(f"  {server}", memory, model, why, bar, told)
        return grid

    def _ordered(self) -> list[Mapping[str, Any]]:
        return sorted(self.tasks.values(), key=lambda task: (task["server"], task["model"]))

    def _cells(self, task: Mapping[str, Any]) -> tuple[str, str, str, str]:
        # what it needs comes first; of these stand-ins it says nothing
        told = task.get("message", "").rpartition("; ")[2]
        why = told if task["state"] == "Installed" else ""
        return task["server"], self.memory.get(task["server"], ""), task["model"], why


_HEAD = ("server", "memory", "model", "why")


def _row(server: str, memory: str, model: str, why: str, told: str) -> str:
    return f"  {server:<16} {memory:<8} {model:<16} {why:<12} {told}".rstrip()


def _underway(task: Mapping[str, Any]) -> str:
    if task["state"] == "Pulling" and task.get("bytesPerSecond"):
        return f"{task['progress']:>8.0%}  {_size(task['bytesPerSecond'])}/s"
    return str(task["state"]).lower()


def _size(size: int) -> str:
    """Bytes as downloads are told: ``13.8 GB``, ``398 kB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long ago that was."""
        return time.monotonic() - self._began
