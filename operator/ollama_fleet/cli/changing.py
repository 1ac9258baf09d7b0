"""`pull`, `cordon` and `uncordon`: each writes a resource, and the operator does the rest."""

import asyncio

import click

from ollama_fleet.api.names import InvalidModelName, canonical
from ollama_fleet.cli import pulling
from ollama_fleet.cli.completing import any_distribution, any_model, any_node, any_target
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import read
from ollama_fleet.cli.session import Session, command
from ollama_fleet.cli.waiting import follow
from ollama_fleet.kube.kinds import OLLAMA_NODE

MANAGER = "kubectl-ollama"


@click.command()
@click.argument("model", shell_complete=any_model)
@click.option(
    "--to",
    multiple=True,
    metavar="NAME",
    shell_complete=any_target,
    help="OllamaNodes, or servers; without: all of them.",
)
@click.option(
    "--distribution",
    metavar="NAME",
    shell_complete=any_distribution,
    help="The ModelDistribution to make, or to add it to.",
)
@click.option("--wait/--no-wait", help="Until it is on all servers; the exit code tells.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer.")
@command()
async def pull(
    session: Session,
    model: str,
    to: tuple[str, ...],
    distribution: str | None,
    wait: bool,
    timeout: float | None,
) -> int:
    """Bring MODEL to servers, and keep it there.

    Exit code 0: it is asked for, with --wait: installed everywhere. 1: it is not; why is told.
    """
    try:
        model = canonical(model)
    except InvalidModelName as error:
        raise NotPossible(str(error)) from None
    fleet = await read(session.kube, session.namespace)
    target = pulling.target(to, fleet)
    name = distribution or pulling.name_for(target)
    for existing in fleet.distributions:
        if existing["metadata"]["name"] == name and (why := pulling.refusal(existing, target)):
            raise NotPossible(why)
    wanted = pulling.distribution(name, session.namespace, model, target)
    await session.kube.apply(wanted, field_manager=pulling.manager(model))
    session.screen.line(f"ModelDistribution {name} wants {model}")
    if not wait:
        session.screen.line("Watch it with kubectl ollama status, or give --wait.")
        return 0
    try:
        async with asyncio.timeout(timeout):
            console = session.screen.console
            end = await follow(session.kube, session.namespace, name, model, console)
    except TimeoutError:
        raise NotPossible(
            f"{model} is not on all servers after {timeout:g} s. The pull goes on: "
            "kubectl ollama status"
        ) from None
    for problem in end.problems:
        click.echo(f"error: {problem}", err=True)
    return 1 if end.problems else 0


@click.command()
@click.argument("ollamanode", nargs=-1, required=True, shell_complete=any_node)
@command()
async def cordon(session: Session, ollamanode: tuple[str, ...]) -> None:
    """Send OllamaNodes nothing new.

    Neither requests nor pulls; what runs there ends.
    """
    await _cordoned(session, ollamanode, True)


@click.command()
@click.argument("ollamanode", nargs=-1, required=True, shell_complete=any_node)
@command()
async def uncordon(session: Session, ollamanode: tuple[str, ...]) -> None:
    """Send them requests and pulls again."""
    await _cordoned(session, ollamanode, False)


async def _cordoned(session: Session, names: tuple[str, ...], value: bool) -> None:
    """All of them, or none where one does not exist."""
    listed = await session.kube.list(OLLAMA_NODE, session.namespace)
    found = {one["metadata"]["name"]: one for one in listed}
    for name in names:
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise NotPossible(
                f"no OllamaNode {name} in namespace {session.namespace}: there are {known}"
            )
    for name in dict.fromkeys(names):
        word = "cordoned" if value else "uncordoned"
        if bool(found[name]["spec"].get("cordoned")) == value:
            session.screen.line(f"OllamaNode {name} is {word} already")
            continue
        meta = {"name": name, "namespace": session.namespace, "uid": found[name]["metadata"]["uid"]}
        await session.kube.apply(
            {
                "apiVersion": OLLAMA_NODE.api_version,
                "kind": OLLAMA_NODE.kind,
                "metadata": meta,
                "spec": {"cordoned": value},
            },
            field_manager=MANAGER,
        )
        session.screen.line(f"OllamaNode {name} {word}")
