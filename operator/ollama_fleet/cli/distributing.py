"""`distribute`: a policy of several models, written as one ModelDistribution."""

from collections.abc import Sequence

import click

from ollama_fleet.api.names import DEFAULT_HOST, ModelName
from ollama_fleet.cli import policies, pulling
from ollama_fleet.cli.completing import any_distribution, any_model, any_target
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fitting import COLUMNS, Described, describe, judged
from ollama_fleet.cli.fleet import Fleet, read
from ollama_fleet.cli.policies import Asked
from ollama_fleet.cli.screen import Screen
from ollama_fleet.cli.session import Session, command
from ollama_fleet.cli.table import Column, Record, Table, text
from ollama_fleet.kube import Conflict, Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION
from ollama_fleet.ollama.errors import ModelNotFound


@click.command()
@click.argument("model", nargs=-1, required=True, shell_complete=any_model)
@click.option(
    "--to",
    multiple=True,
    metavar="NAME",
    shell_complete=any_target,
    help="OllamaNodes, or servers; without: all of them.",
)
@click.option("--selector", "-l", multiple=True, metavar="LABEL=VALUE", help="OllamaNodes by it.")
@click.option(
    "--name",
    metavar="NAME",
    shell_complete=any_distribution,
    help="The ModelDistribution's; without: the models'.",
)
@click.option("--digest", metavar="SHA256", help="Pins MODEL, where that is one.")
@click.option("--window", metavar="START-END", help="When pulls run, such as 02:00-06:00.")
@click.option("--time-zone", metavar="NAME", help="Of the window, such as Asia/Shanghai.")
@click.option("--max-parallel", metavar="N", help="Pulls at once: a count, or such as 25%.")
@click.option("--registry", default=DEFAULT_HOST, metavar="HOST", show_default=True)
@click.option("--insecure", is_flag=True, help="Over plain HTTP.")
@click.option("--anyway", is_flag=True, help="Also if it does not fit everywhere.")
@click.option(
    "--dry-run",
    type=click.Choice(["client", "server"]),
    help="Write nothing and print it; server: as the API server would have it.",
)
@command(prints=True)
async def distribute(
    session: Session,
    to: tuple[str, ...],
    selector: tuple[str, ...],
    name: str | None,
    anyway: bool,
    dry_run: str | None,
    **given: object,
) -> int:
    """Have MODELs on servers, by one policy.

    That is a ModelDistribution of all of them, which also says where, when and how.

    What was asked for under that name before and is not any more is wanted no more; it stays
    installed. Exit code 0: it is done. 1: it is not, as something does not fit, or is refused.
    """
    asked = _asked(given)
    fleet = await read(session.kube, session.namespace)
    target = policies.target_of(pulling.target(to, fleet), policies.labels_of(selector), fleet)
    spec = policies.spec_of(asked, target)
    models = policies.names(asked.models)
    made = policies.distribution(name or policies.name_for(models), session.namespace, spec)
    called = made["metadata"]["name"]
    for existing in fleet.distributions:
        if existing["metadata"]["name"] == called and (why := policies.refusal(existing)):
            raise NotPossible(why)
    printed = dry_run is not None or session.screen.format in ("json", "yaml")
    beside = Screen.standard(error=True) if printed else session.screen
    if not await _fits(beside, asked, policies.meant(fleet, target)) and not anyway:
        raise NotPossible(
            "nothing is written, as not all of it fits. Name other servers with --to, or give "
            "--anyway: what does not fit is then told by status, and not pulled"
        )
    kept = made if dry_run == "client" else await _applied(session, made, dry_run == "server")
    if printed:
        form = session.screen.format if session.screen.format == "json" else "yaml"
        Screen(session.screen.console, form).data(_gist(kept))
        return 0
    show_done(session.screen, made)
    return 0


def _asked(given: dict[str, object]) -> Asked:
    values = {key: value for key, value in given.items() if key != "model"}
    return Asked(given["model"], **values)  # type: ignore[arg-type]


async def _fits(screen: Screen, asked: Asked, fleet: Fleet) -> bool:
    """Look each model up, and show the verdicts; whether all fit, as far as is known."""
    known: list[Described] = []
    absent = False
    for model in policies.names(asked.models):
        name = ModelName.parse(model)
        try:
            known.append(await describe(name, asked.registry, asked.insecure))
        except ModelNotFound as error:
            screen.line(str(error))
            absent = True
        except NotPossible as error:
            # the servers may well reach a registry that this machine does not
            screen.line(f"whether {model} fits is not known: {error}")
    return show_verdicts(screen, known, fleet) and not absent


def show_verdicts(screen: Screen, models: Sequence[Described], fleet: Fleet) -> bool:
    """Print each model's verdict for each server; whether all of them fit."""
    rows: list[Record] = []
    promised: dict[tuple[str, str], int] = {}
    for model in models:
        screen.line(str(model))
        for row in judged(model, fleet, promised=promised):
            rows.append({"model": model.name, **row})
            if not row["installed"]:
                place = row["namespace"], row["server"]
                promised[place] = promised.get(place, 0) + model.size
    if rows:
        screen.table(Table([Column("MODEL", text("model")), *COLUMNS], rows))
    return all(row["fits"] for row in rows)


def show_done(screen: Screen, made: Object) -> None:
    """Print what is wanted now."""
    models = ", ".join(model["name"] for model in made["spec"]["models"])
    screen.line(f"ModelDistribution {made['metadata']['name']} wants {models}")
    screen.line("Watch it with kubectl ollama status.")


async def _applied(session: Session, made: Object, dry_run: bool) -> Object:
    try:
        return await session.kube.apply(
            made, field_manager=policies.MANAGER, force=False, dry_run=dry_run
        )
    except Conflict as error:
        name = made["metadata"]["name"]
        raise NotPossible(
            f"{error}: somebody else has set that. Choose another --name, or change it with "
            f"kubectl edit {MODEL_DISTRIBUTION.plural} {name}"
        ) from None


def _gist(obj: Object) -> Object:
    """Without what the API server keeps for itself, and the status."""
    kept = {key: value for key, value in obj.items() if key != "status"}
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**kept, "metadata": meta}
