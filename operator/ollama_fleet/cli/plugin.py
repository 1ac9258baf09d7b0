"""`kubectl_complete-ollama`: what kubectl asks for completions of `kubectl ollama`.

kubectl passes the words after `ollama`, the last of which is being typed, and reads a completion a
line, with its description after a tab, and at the end a line that says what else may be offered.
"""

import logging
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, ShellComplete

from ollama_fleet.cli.main import PROGRAM, VARIABLE, program

FILES, NO_FILES, FOLDERS = 0, 4, 16
"""What else may be offered, as cobra numbers it."""


def answer(words: Sequence[str]) -> list[str]:
    """The lines for words of which the last is being typed."""
    *before, incomplete = words or [""]
    found = ShellComplete(program, {}, PROGRAM, VARIABLE).get_completions(before, incomplete)
    kinds = {one.type for one in found}
    directive = FILES if "file" in kinds else FOLDERS if "dir" in kinds else NO_FILES
    return [*(_line(one) for one in found if one.type == "plain"), f":{directive}"]


def _line(item: CompletionItem) -> str:
    return f"{item.value}\t{item.help}" if item.help else str(item.value)


def main() -> None:
    """Print the completions of the words given."""
    logging.disable(logging.CRITICAL)
    for line in answer(sys.argv[1:]):
        click.echo(line)
