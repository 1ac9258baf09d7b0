"""What the pages show: their fenced blocks, and the commands and answers in these.

A comment of HTML right before a block says what it is, where that is not what it looks like:

    <!-- not run: REASON -->      commands that nothing here can run, or YAML that nothing can check
    <!-- as in: PATH -->          the same lines stand in that page, where they are run
    <!-- file: NAME -->           the next commands find it under that name
    <!-- background -->           goes on while the page does; it is waited for what it shows
    <!-- refused -->              the last command fails, as the page says
    <!-- values -->               values of the chart
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("console", "sh")
"""The languages of blocks that people type: with answers after `$ `, or without."""
KINDS = ("not run", "as in", "file", "background", "refused", "values")
_FENCE = re.compile(r"^(`{3,})(.*)$")
_NOTE = re.compile(r"^<!-- ([a-z ]+?)(?:: (.+?))? -->$")
_HERE = re.compile(r"<<-?\s*'?(\w+)'?")
_ANY = "…"


@dataclass(frozen=True)
class Block:
    """A fenced block: `line` is the first inside it, counted from 1."""

    page: Path
    line: int
    language: str
    text: str
    notes: dict[str, str]

    @property
    def where(self) -> str:
        """As editors take it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """What is typed, over several lines where it takes them, and the lines it is said to print."""

    line: int
    text: str
    answer: tuple[str, ...]


def every() -> list[Path]:
    """The pages whose commands are run: the README, and the guides and references of docs."""
    docs = ROOT / "docs"
    folders = (docs, docs / "guides", docs / "reference")
    return [ROOT / "README.md", *(page for each in folders for page in sorted(each.glob("*.md")))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks in order. ValueError for one that does not end, or an unknown note."""
    found: list[Block] = []
    notes: dict[str, str] = {}
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in lines:
        if fence := _FENCE.match(line):
            text = _until(fence[1], lines, f"{page}:{number}")
            found.append(Block(page, number + 1, fence[2].strip(), text, notes))
            notes = {}
        elif note := _NOTE.match(line):
            if note[1] in KINDS:
                notes = {**notes, note[1]: note[2] or ""}
        elif line.strip():
            if notes:
                raise ValueError(f"{page}:{number}: <!-- {next(iter(notes))} --> has no block")
            if "```" in line:
                raise ValueError(f"{page}:{number}: a block begins at the start of a line")
    return found


def _until(fence: str, lines: Iterator[tuple[int, str]], where: str) -> str:
    text: list[str] = []
    for _, line in lines:
        if line == fence:
            return "".join(f"{each}\n" for each in text)
        text.append(line)
    raise ValueError(f"{where}: the block does not end")


def commands(block: Block) -> list[Command]:
    """What a block has people type, each with its answer; `sh` shows none."""
    prompt = "$ " if block.language == "console" else ""
    found: list[Command] = []
    lines = list(enumerate(block.text.splitlines(), block.line))
    while lines:
        number, line = lines.pop(0)
        if not prompt and (not line.strip() or line.startswith("#")):
            continue
        assert line.startswith(prompt), f"{block.where}: a console begins with `$ `"
        text = line.removeprefix(prompt)
        text += "".join(f"\n{each}" for each in _rest(text, lines))
        answer: list[str] = []
        while prompt and lines and not lines[0][1].startswith(prompt):
            answer.append(lines.pop(0)[1])
        found.append(Command(number, text, tuple(answer)))
    return found


def _rest(text: str, lines: list[tuple[int, str]]) -> Iterator[str]:
    """The further lines of a command: after a \\, and up to the word of a here-document."""
    here = _HERE.search(text)
    while text.endswith("\\") or here:
        text = lines.pop(0)[1]
        yield text
        if here and text == here[1]:
            return


def answers(shown: tuple[str, ...], printed: str) -> bool:
    """Whether a program printed what is shown.

    Widths of gaps do not count; … stands for anything, on a line of its own for any lines.
    """
    pattern = ""
    for line in filter(str.strip, shown):
        if line.strip() == _ANY:
            pattern += r"(?:.*\n)*?"
            continue
        pattern += ".*?".join(re.escape(_tidy(part)) for part in line.split(_ANY)) + r"\n"
    tidied = "".join(f"{_tidy(line)}\n" for line in printed.splitlines() if line.strip())
    return re.fullmatch(pattern, tidied) is not None


def _tidy(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def name(page: Path) -> str:
    """Where it lies in the repository."""
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


def links(page: Path) -> list[str]:
    """Where the links of a page lead, those out of the repository set aside."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))
    return [one for one in targets if not re.match(r"https?:|mailto:", one)]
