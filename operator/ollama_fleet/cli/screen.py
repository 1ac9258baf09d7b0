"""Where the commands print: colour and bars on a terminal, plain text elsewhere, JSON or YAML."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from ollama_fleet.cli.table import Table

Format = Literal["", "wide", "json", "yaml"]
ACCENT = "cyan"
_BAR = 10
_NOBODY = 500
"""Columns where nobody watches, and with -o wide: nothing is to be cut."""


@dataclass(frozen=True)
class Screen:
    """Prints, to standard output as a rule. NO_COLOR and the lack of a terminal turn colour off."""

    console: Console
    format: Format = ""

    @classmethod
    def standard(cls, form: Format = "", error: bool = False) -> "Screen":
        """Of this program; on standard error if so."""
        watched = (sys.stderr if error else sys.stdout).isatty() and form != "wide"
        width = None if watched else _NOBODY
        console = Console(highlight=False, emoji=False, markup=False, width=width, stderr=error)
        return cls(console, form)

    @property
    def wide(self) -> bool:
        """Whether everything is to be shown."""
        return self.format == "wide"

    @property
    def columns(self) -> int:
        """How many there are."""
        return self.console.width

    @property
    def coloured(self) -> bool:
        """Whether colour is wanted."""
        return self.console.is_terminal and not self.console.no_color

    def data(self, value: Any) -> bool:
        """Print a value as JSON or YAML; False where people are to read it."""
        if self.format == "json":
            print(json.dumps(value, indent=2, ensure_ascii=False))
        elif self.format == "yaml":
            print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")
        return self.format in ("json", "yaml")

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line as it is."""
        self.console.print(self.text(text, style), soft_wrap=True)

    def text(self, text: str, style: str = "") -> Text:
        """A line, to be printed among others."""
        return Text(plain(text), style=style)

    def drawn(self, table: Table) -> RenderableType:
        """A table, to be printed among others; or what to do where it is empty."""
        return self._grid(table) if table.rows else self.text(table.empty)

    def stacked(self, parts: Iterable[RenderableType]) -> Group:
        """One below the other."""
        return Group(*parts)

    def table(self, table: Table) -> None:
        """Print a table, or what to do where it is empty."""
        if self.data(table.rows):
            return
        if table.rows:
            self.console.print(self._grid(table))
        elif table.empty:
            self.line(table.empty)
        if table.note:
            self.console.print(self.text(table.note))

    def _grid(self, table: Table) -> Grid:
        grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        columns = [column for column in table.columns if self.wide or not column.wide]
        for column in columns:
            grid.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=not column.folds,
                overflow="fold" if column.folds else "ellipsis",
            )
        for row in table.rows:
            grid.add_row(*(_drawn(column.cell(row)) for column in columns))
        return grid


def _drawn(cell: str | float) -> Text | ProgressBar:
    if isinstance(cell, str):
        return Text(plain(cell))
    return ProgressBar(
        total=1.0, completed=cell, width=_BAR, complete_style=ACCENT, finished_style=ACCENT
    )


def plain(text: str) -> str:
    """Without what would drive the terminal: a server's message may hold anything."""
    return text.replace("\x1b", "^[")
