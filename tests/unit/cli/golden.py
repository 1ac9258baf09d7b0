"""Every table as it is printed of the fleet in fleet.yaml, kept in printed/.

Written anew by `python -m tests.unit.cli.golden`, for a person to look through the difference.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, get_args

from ollama_fleet.cli import matrix, views
from ollama_fleet.cli.checking import Installation, findings
from ollama_fleet.cli.distributing import show_verdicts
from ollama_fleet.cli.fitting import verdicts
from ollama_fleet.cli.keys import entry, listed
from ollama_fleet.cli.looking import show_status
from ollama_fleet.cli.policies import meant
from ollama_fleet.cli.screen import Format, Screen
from ollama_fleet.cli.top import show_top
from tests.unit.cli.drawing import WIDTH, deployment, drawn, encoded, offered, sample
from tests.unit.cli.traffic import passing

FOLDER = Path(__file__).with_name("printed")
WIDE = 200
Draw = Callable[[Screen], Any]


def tables() -> dict[str, Draw]:
    """What prints each, in one namespace and, with -A, in all."""
    fleet = sample()
    model = offered("llama3.1:8b")
    there = Installation(None, [deployment(ready=0)])
    secret = encoded(
        team=entry("k" * 64, {"models": ["qwen3:4b"], "requestsPerMinute": 60}), bad="sha256: 12"
    )
    some = meant(fleet, {"ollamaNodes": ["fleet"]})
    return {
        "status": lambda screen: show_status(screen, fleet, seen=passing()),
        "status-all": lambda screen: show_status(screen, fleet, True, passing()),
        "top": lambda screen: show_top(screen, fleet, passing()),
        "top-all": lambda screen: show_top(screen, fleet, passing(), True),
        "nodes": lambda screen: screen.table(views.nodes(fleet)),
        "nodes-all": lambda screen: screen.table(views.nodes(fleet, True)),
        "models": lambda screen: screen.table(matrix.models(fleet, wide=screen.wide)),
        "models-all": lambda screen: screen.table(matrix.models(fleet, True, screen.wide)),
        "fit": lambda screen: screen.table(verdicts(model, fleet)),
        "fit-all": lambda screen: screen.table(verdicts(model, fleet, everywhere=True)),
        "distribute": lambda screen: show_verdicts(screen, [model, offered("qwen3:4b")], some),
        "keys": lambda screen: screen.table(listed(secret)),
        "doctor": lambda screen: screen.table(findings(there, fleet)),
    }


def documents() -> dict[Path, str]:
    """The files and their texts."""
    found = {}
    for name, draw in tables().items():
        for form in ("", *get_args(Format)):
            if form in ("json", "yaml") and ("-all" in name or name == "distribute"):
                continue
            suffix = f".{form}" if form in ("json", "yaml") else f"{'-' if form else ''}{form}.txt"
            found[FOLDER / f"{name}{suffix}"] = printed(draw, form)
    return found


def printed(draw: Draw, form: Format) -> str:
    """On 80 columns; wide ones and data on as many as they need."""
    said = io.StringIO()
    with redirect_stdout(said):
        text = drawn(draw, WIDTH if form == "" else WIDE, form)
    return said.getvalue() or text


if __name__ == "__main__":
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
