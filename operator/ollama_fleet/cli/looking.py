"""`status`, `nodes` and `models`: the fleet as it is."""

import click

from ollama_fleet.cli import matrix, views
from ollama_fleet.cli.fleet import Fleet, read
from ollama_fleet.cli.screen import Screen
from ollama_fleet.cli.session import Session, command


@click.command()
@command(shows=True, everywhere=True)
async def status(session: Session) -> None:
    """Show the fleet on one screen."""
    show_status(session.screen, await read(session.kube, session.scope), session.everywhere)


def show_status(screen: Screen, fleet: Fleet, everywhere: bool = False) -> None:
    """Print the whole: figures, servers, pulls, and what waits for a person."""
    figures = views.heading(fleet)
    servers = views.servers(fleet, everywhere)
    pulls = views.pulls(fleet, everywhere)
    attention = views.attention(fleet, everywhere)
    whole = {
        **figures,
        "list": servers.rows,
        "pulls": pulls.rows,
        "attention": attention.rows,
    }
    if screen.data(whole):
        return
    for number, line in enumerate(views.headline(figures)):
        screen.line(line, "bold" if number == 0 else "")
    screen.line()
    screen.table(servers)
    for table in (pulls, attention):
        if table.rows:
            screen.line()
            screen.table(table)


@click.command()
@command(shows=True, everywhere=True)
async def nodes(session: Session) -> None:
    """List the OllamaNodes and their servers."""
    fleet = await read(session.kube, session.scope)
    session.screen.table(views.nodes(fleet, session.everywhere))


@click.command()
@command(shows=True, everywhere=True)
async def models(session: Session) -> None:
    """Show which server has which model."""
    fleet = await read(session.kube, session.scope)
    session.screen.table(matrix.models(fleet, session.everywhere, session.screen.wide))
