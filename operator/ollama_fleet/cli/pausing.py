"""`suspend` and `resume`: whether a ModelDistribution pulls."""

import click

from ollama_fleet.cli.completing import any_distribution
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.session import Session, command
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION

_NAMES = click.argument("distribution", nargs=-1, required=True, shell_complete=any_distribution)


@click.command()
@_NAMES
@command()
async def suspend(session: Session, distribution: tuple[str, ...]) -> None:
    """Stop the pulls of ModelDistributions.

    What is installed stays.
    """
    await _suspended(session, distribution, True)


@click.command()
@_NAMES
@command()
async def resume(session: Session, distribution: tuple[str, ...]) -> None:
    """Have ModelDistributions pull again."""
    await _suspended(session, distribution, False)


async def chosen(session: Session, names: tuple[str, ...]) -> list[Object]:
    """The ModelDistributions of these names; NotPossible where one does not exist."""
    listed = await session.kube.list(MODEL_DISTRIBUTION, session.namespace)
    found = {one["metadata"]["name"]: one for one in listed}
    for name in names:
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise NotPossible(
                f"no ModelDistribution {name} in namespace {session.namespace}: there are {known}"
            )
    return [found[name] for name in dict.fromkeys(names)]


async def _suspended(session: Session, names: tuple[str, ...], value: bool) -> None:
    word = "suspended" if value else "resumed"
    for one in await chosen(session, names):
        name = one["metadata"]["name"]
        if bool(one["spec"].get("suspend")) == value:
            told = "is suspended already" if value else "is not suspended"
            session.screen.line(f"ModelDistribution {name} {told}")
            continue
        change = {"metadata": {"uid": one["metadata"]["uid"]}, "spec": {"suspend": value}}
        await session.kube.patch(MODEL_DISTRIBUTION, name, session.namespace, change)
        session.screen.line(f"ModelDistribution {name} {word}")
