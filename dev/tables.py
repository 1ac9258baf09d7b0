"""Tables of Markdown."""

from collections.abc import Sequence


def table(head: tuple[str, ...], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table that reads well as text too: all columns but the last are of one width."""
    cells: list[Sequence[str]] = [head, *([cell(text) for text in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]

    def line(row: Sequence[str]) -> str:
        padded = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        return f"| {' | '.join([*padded, row[-1]])} |"

    rule = "|".join(["-" * (width + 2) for width in widths] + ["---"])
    return [line(cells[0]), f"|{rule}|", *(line(row) for row in cells[1:])]


def cell(text: str) -> str:
    """Text as a cell: on one line, and nothing in it that ends the cell or is taken for a tag."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(
        part if odd % 2 else part.replace("<", "&lt;") for odd, part in enumerate(parts)
    )
