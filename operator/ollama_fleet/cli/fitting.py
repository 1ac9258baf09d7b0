"""`fit`: where a model would run, and why not elsewhere, before a byte is pulled."""

from collections.abc import Mapping
from dataclasses import dataclass

import click
from pydantic import ValidationError

from ollama_fleet.api.modeldistribution import Sizing
from ollama_fleet.api.names import DEFAULT_HOST, InvalidModelName, ModelName
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of, gib
from ollama_fleet.cli.completing import any_model
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import Fleet, Server, read, tasks_of
from ollama_fleet.cli.session import Session, command
from ollama_fleet.cli.table import Column, Record, Table, text
from ollama_fleet.cli.views import NAMESPACE, NO_SERVERS
from ollama_fleet.ollama.errors import RegistryError, Unreachable
from ollama_fleet.ollama.gguf import GgufError
from ollama_fleet.ollama.registry import MODEL_LAYER, RegistryClient
from ollama_fleet.plan.architecture import Architecture, architecture_of
from ollama_fleet.plan.catalogue import catalogue
from ollama_fleet.plan.sizing import Load, Weights, amounts, fit


@dataclass(frozen=True)
class Described:
    """What is known of a model, and from where. ``size`` is what is downloaded, in bytes."""

    name: str
    weights: Weights
    size: int
    architecture: Architecture | None
    source: str

    def __str__(self) -> str:
        return f"{self.name}: {gib(self.size)} to download, as {self.source} says"


async def describe(name: ModelName, registry: str, insecure: bool) -> Described:
    """Ask the registry; where it does not answer, look among the models on offer."""
    scheme = "http" if insecure else "https"
    try:
        async with RegistryClient(f"{scheme}://{registry}", insecure=insecure) as client:
            manifest = await client.manifest(name)
            layer = next(iter(manifest.of_type(MODEL_LAYER)), None)
            shape = None
            if layer is not None:
                try:
                    shape = architecture_of(await client.header(name, layer))
                except GgufError:
                    shape = None
    except (Unreachable, RegistryError) as error:
        offered = {offer.name: offer for offer in catalogue()}.get(name.canonical)
        if offered is None:
            raise NotPossible(
                f"{error}, and {name} is not among the models known without it: try again where "
                "the registry can be reached, or give --registry"
            ) from None
        weights = Weights(offered.size)
        known = offered.architecture
        return Described(name.canonical, weights, offered.size, known, "the built-in list")
    weights = Weights(*manifest.loaded)
    return Described(name.canonical, weights, manifest.size, shape, registry)


def verdicts(
    model: Described, fleet: Fleet, context: int | None = None, everywhere: bool = False
) -> Table:
    """A row for each server: whether the model fits, what it needs, and why not."""
    return Table(
        [*([NAMESPACE] if everywhere else []), *COLUMNS],
        judged(model, fleet, context),
        empty=NO_SERVERS,
    )


def judged(
    model: Described,
    fleet: Fleet,
    context: int | None = None,
    promised: Mapping[tuple[str, str], int] | None = None,
) -> list[Record]:
    """The verdict for each server; ``promised`` are bytes of its disk, by namespace and name of
    the server, that are to be taken by others."""
    there = {
        task.server
        for one in fleet.distributions
        for task in tasks_of(one, model.name)
        if task.state == "Installed"
    }
    taken = promised or {}
    found = [((one.namespace, one.name), one) for one in fleet.servers()]
    return [
        _verdict(model, server, context, place in there, taken.get(place, 0))
        for place, server in found
    ]


def _verdict(
    model: Described, server: Server, context: int | None, installed: bool, promised: int
) -> Record:
    try:
        spec = OllamaNodeSpec.model_validate(server.ollamanode["spec"])
    except ValidationError:
        raise NotPossible(
            f"OllamaNode {server.ollamanode['metadata']['name']} is of another version than this "
            "program: install that of the operator"
        ) from None
    status = server.status
    total = status.get("memoryTotal")
    load = Load.of(spec).sized(Sizing(context_length=context))
    verdict = fit(
        model.weights, model.architecture, load, None if total is None else bytes_of(total)
    )
    why = ["estimated from its size alone" if verdict.estimated else str(verdict.load)]
    free = bytes_of(status["diskFree"]) if "diskFree" in status else None
    room = free is None or promised + model.size <= free or installed
    if free is not None and not room:
        beside = f", {gib(promised)} of it for the others" if promised else ""
        needed = f"{gib(model.size)} have to be downloaded"
        why.append(f"its disk has {gib(free)} free{beside}, and {needed}")
    if server.cordoned:
        why.append("it is cordoned")
    elif status["state"] != "Ready":
        why.append(f"it is {status['state']}")
    return {
        "namespace": server.namespace,
        "server": server.name,
        "fits": verdict.fits and room,
        "need": verdict.need,
        "memory": verdict.has,
        "installed": installed,
        "why": "; ".join(why),
    }


def _word(row: Record) -> str:
    if row["fits"] and row["memory"] is None:
        return "unknown"
    return "yes" if row["fits"] else "no"


COLUMNS = (
    Column("SERVER", text("server")),
    Column("FITS", _word),
    Column("NEEDS", lambda row: amounts(row["need"], row["memory"])[0], right=True),
    Column("HAS", lambda row: amounts(row["need"], row["memory"])[1] or "unknown", right=True),
    Column("WHY", text("why"), folds=True),
)
"""A verdict, for people."""


@click.command(name="fit")
@click.argument("model", shell_complete=any_model)
@click.option(
    "--context-length",
    type=click.IntRange(256, 4_194_304),
    metavar="TOKENS",
    help="Of each request; without: as each server is set.",
)
@click.option("--registry", default=DEFAULT_HOST, metavar="HOST", show_default=True)
@click.option("--insecure", is_flag=True, help="Ask the registry over plain HTTP.")
@command(shows=True, everywhere=True)
async def fit_command(
    session: Session, model: str, context_length: int | None, registry: str, insecure: bool
) -> int:
    """Tell where MODEL fits, and why not elsewhere.

    Exit code 0: on one at least. 1: on none.
    """
    try:
        name = ModelName.parse(model)
    except InvalidModelName as error:
        raise NotPossible(str(error)) from None
    fleet = await read(session.kube, session.scope)
    found = await describe(name, registry, insecure)
    table = verdicts(found, fleet, context_length, session.everywhere)
    if session.screen.format not in ("json", "yaml"):
        session.screen.line(str(found))
    session.screen.table(table)
    return 0 if any(row["fits"] for row in table.rows) else 1
