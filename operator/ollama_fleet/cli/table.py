"""Tables as data: what a command shows, before it is known how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
"""A row as JSON and YAML have it."""


@dataclass(frozen=True)
class Column:
    """A column: the text of its cell, or a number from 0 to 1, which becomes a bar."""

    title: str
    cell: Callable[[Record], str | float]
    wide: bool = False
    """Shown with -o wide alone."""
    right: bool = False
    folds: bool = False
    """Whether a long text goes on in the next line."""


@dataclass(frozen=True)
class Table:
    """Rows, and how they are shown."""

    columns: Sequence[Column]
    rows: list[Record] = field(default_factory=list)
    empty: str = ""
    """What to say where there are none: what that means, and what to do."""
    note: str = ""
    """What to say below."""


def text(key: str) -> Callable[[Record], str]:
    """The cell of a value that stands there as it is; a list with commas."""

    def cell(row: Record) -> str:
        value = row.get(key)
        if isinstance(value, list):
            return ", ".join(str(one) for one in value)
        return "" if value is None else str(value)

    return cell
