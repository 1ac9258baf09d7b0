"""`status`, `nodes` and `models`: the fleet as it is."""

import asyncio

import click

from ollama_fleet.cli import matrix, traffic, views
from ollama_fleet.cli.fleet import Fleet, read
from ollama_fleet.cli.scraping import Traffic, watched
from ollama_fleet.cli.screen import Screen
from ollama_fleet.cli.session import Session, command


@click.command()
@command(shows=True, everywhere=True)
async def status(session: Session) -> None:
    """Show the fleet on one screen."""
    fleet, seen = await asyncio.gather(
        read(session.kube, session.scope), watched(session.kube, session.scope)
    )
    show_status(session.screen, fleet, session.everywhere, seen)


def show_status(
    screen: Screen, fleet: Fleet, everywhere: bool = False, seen: Traffic | None = None
) -> None:
    """Print the whole: figures, servers, pulls, and what waits for a person."""
    passing = seen.figures() if seen and fleet.routers else None
    figures = views.heading(fleet, passing.in_flight if passing else None)
    unseen = seen.problem if seen and fleet.routers else ""
    servers = views.servers(fleet, everywhere)
    pulls = views.pulls(fleet, everywhere)
    attention = views.attention(fleet, everywhere)
    whole = {
        **figures,
        "traffic": traffic.record(passing),
        "trafficProblem": unseen or None,
        "list": servers.rows,
        "pulls": pulls.rows,
        "attention": attention.rows,
    }
    if screen.data(whole):
        return
    first, *routers = views.headline(figures)
    screen.line(first, "bold")
    passed = [traffic.sentence(passing)] if passing else []
    for line in (*passed, *routers, *([unseen] if unseen else [])):
        screen.line(line)
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
    session.screen.table(
        matrix.models(fleet, session.everywhere, session.screen.wide, session.screen.columns)
    )
