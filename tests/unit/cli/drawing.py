"""What the commands would print of the fleet in fleet.yaml, 80 columns wide."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ollama_fleet.api.names import DEFAULT_HOST
from ollama_fleet.cli import matrix, policies, views
from ollama_fleet.cli.checking import Installation, findings
from ollama_fleet.cli.distributing import show_done, show_verdicts
from ollama_fleet.cli.fitting import Described, verdicts
from ollama_fleet.cli.fleet import Fleet
from ollama_fleet.cli.looking import show_status
from ollama_fleet.cli.main import program
from ollama_fleet.cli.pulling import state_of
from ollama_fleet.cli.pulling import target as target_of
from ollama_fleet.cli.screen import Format, Screen
from ollama_fleet.cli.top import show_top
from ollama_fleet.cli.waiting import Lines
from ollama_fleet.plan.catalogue import catalogue
from ollama_fleet.plan.sizing import Weights
from tests.unit.cli.traffic import passing

WIDTH = 80


def sample() -> Fleet:
    objects = list(yaml.safe_load_all((Path(__file__).parent / "fleet.yaml").read_text()))
    by_kind: dict[str, list[dict[str, object]]] = {}
    for obj in objects:
        by_kind.setdefault(obj["kind"], []).append(obj)
    return Fleet(by_kind["OllamaNode"], by_kind["ModelDistribution"], by_kind["Router"])


def drawn(draw: Callable[[Screen], None], width: int = WIDTH, form: Format = "") -> str:
    console = Console(width=width, highlight=False, markup=False, emoji=False, color_system=None)
    with console.capture() as said:
        draw(Screen(console, form))
    return "".join(f"{line.rstrip()}\n" for line in said.get().splitlines())


def offered(name: str) -> Described:
    offer = next(one for one in catalogue() if one.name == name)
    return Described(name, Weights(offer.size), offer.size, offer.architecture, DEFAULT_HOST)


def shown(command: str) -> str:
    """What a command of the guide prints."""
    fleet = sample()
    match command.split():
        case ["status"]:
            return drawn(lambda screen: show_status(screen, fleet, seen=passing()))
        case ["top", "--once"]:
            return drawn(lambda screen: show_top(screen, fleet, passing()))
        case ["nodes"]:
            return drawn(lambda screen: screen.table(views.nodes(fleet)))
        case ["models"]:
            return drawn(lambda screen: screen.table(matrix.models(fleet)))
        case ["models", "-o", "wide"]:
            wide = matrix.models(fleet, wide=True)
            return drawn(lambda screen: screen.table(wide), form="wide")
        case ["fit", model]:
            found = offered(model)
            table = drawn(lambda screen: screen.table(verdicts(found, fleet)))
            return f"{found}\n{table}"
        case ["distribute", *words]:
            return distributed(words)
        case ["doctor"]:
            there = Installation(None, [deployment(ready=0)])
            return drawn(lambda screen: screen.table(findings(there, fleet)))
        case ["pull", model, "--wait"]:
            return drawn(lambda screen: pulled(screen, model))
    raise AssertionError(f"no test draws {command}")


def distributed(words: list[str]) -> str:
    """What `distribute` prints, of models on offer."""
    with program.commands["distribute"].make_context("distribute", words) as context:
        given = context.params
    models: tuple[str, ...] = given["model"]
    fields = ("digest", "window", "time_zone", "max_parallel", "registry", "insecure")
    asked = policies.Asked(models, **{field: given[field] for field in fields})
    fleet = sample()
    target = target_of(given["to"], fleet)
    name = given["name"] or policies.name_for(models)
    made = policies.distribution(name, "llm", policies.spec_of(asked, target))

    def draw(screen: Screen) -> None:
        found = [offered(model) for model in models]
        assert show_verdicts(screen, found, policies.meant(fleet, target))
        show_done(screen, made)

    return drawn(draw)


def deployment(replicas: int = 1, ready: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": "ollama-fleet", "namespace": "ollama-fleet"},
        "spec": {"replicas": replicas},
        "status": {"readyReplicas": ready},
    }


def encoded(**texts: str) -> dict[str, Any]:
    """A Secret with these."""
    return {"data": {key: b64encode(text.encode()).decode() for key, text in texts.items()}}


def task(server: str, model: str, state: str = "Pulling", **values: Any) -> dict[str, Any]:
    return {"id": server + model, "server": server, "model": model, "state": state, **values}


def distribution(*tasks: dict[str, Any], omitted: int = 0, **conditions: str) -> dict[str, Any]:
    """A ModelDistribution with these tasks; conditions that hold, with their messages."""
    return {
        "metadata": {"name": "pulled", "namespace": "llm", "generation": 1},
        "spec": {"models": [{"name": "llama3.1:8b"}]},
        "status": {
            "observedGeneration": 1,
            "tasks": list(tasks),
            "tasksOmitted": omitted,
            "conditions": [
                {"type": kind, "status": "True", "reason": kind, "message": message}
                for kind, message in conditions.items()
            ],
        },
    }


def pulled(screen: Screen, model: str) -> None:
    """A pull of two servers, of which one comes later, as it is told line by line."""
    screen.line(f"ModelDistribution pulled wants {model}")
    lines = Lines(screen.console)

    def state(share: float) -> str:
        return "Installed" if share == 1 else "Pulling"

    size = 4_920_000_000
    for first, second in ((0.0, None), (0.3, None), (0.31, 0.0), (0.8, 0.6), (1.0, 1.0)):
        tasks = [
            task(
                server,
                model,
                "Installed" if share == 1 else "Pulling",
                progress=share,
                totalBytes=size,
            )
            for server, share in (("a100-0", first), ("a100-1", second))
            if share is not None
        ]
        lines.show(state_of(distribution(*tasks), model))
