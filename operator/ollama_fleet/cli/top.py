"""`top`: what the fleet does now, on a screen that follows it."""

import asyncio
from datetime import datetime

import click
from rich.console import RenderableType
from rich.live import Live

from ollama_fleet.cli import scraping, traffic, views
from ollama_fleet.cli.fleet import Fleet, read
from ollama_fleet.cli.scraping import Look, Traffic
from ollama_fleet.cli.screen import Screen
from ollama_fleet.cli.session import Session, command
from ollama_fleet.kube import KubeError

EVERY = 2.0
"""Seconds between two screens."""


@click.command()
@click.option("--once", is_flag=True, help="Print it and end.")
@command(shows=True, everywhere=True)
async def top(session: Session, once: bool) -> None:
    """Follow what the fleet does now.

    Every two seconds, until Ctrl-C; once where there is no terminal.
    """
    screen = session.screen
    if once or screen.format in ("json", "yaml") or not screen.console.is_terminal:
        fleet, seen = await asyncio.gather(
            read(session.kube, session.scope), scraping.watched(session.kube, session.scope)
        )
        show_top(screen, fleet, seen, session.everywhere)
        return
    try:
        await _follow(session)
    except asyncio.CancelledError:
        # Ctrl-C is how this ends
        return


async def _follow(session: Session) -> None:
    before: Look | None = None
    wait = scraping.WINDOW
    fleet = await read(session.kube, session.scope)
    with Live(console=session.screen.console, screen=True, auto_refresh=False) as live:
        while True:
            after = await scraping.look(session.kube, session.scope)
            note = ""
            try:
                fleet = await read(session.kube, session.scope)
            except KubeError as error:
                if not error.transient:
                    raise
                note = f"still trying: {error}"
            seen = Traffic(before or after, after)
            drawn = whole(session.screen, fleet, seen, session.everywhere)
            clock = session.screen.text(f"{datetime.now():%H:%M:%S} {note}".rstrip())
            live.update(session.screen.stacked([clock, *drawn]), refresh=True)
            before = after
            await asyncio.sleep(wait)
            wait = EVERY


def show_top(screen: Screen, fleet: Fleet, seen: Traffic, everywhere: bool = False) -> None:
    """Print it once."""
    routers, servers = traffic.routers(fleet, seen, everywhere), traffic.servers(fleet, seen)
    told = {
        "routers": routers.rows,
        "servers": servers.rows,
        "models": traffic.models(seen).rows,
        "problem": seen.problem or None,
    }
    if not screen.data(told):
        screen.console.print(screen.stacked(whole(screen, fleet, seen, everywhere)))


def whole(
    screen: Screen, fleet: Fleet, seen: Traffic, everywhere: bool = False
) -> list[RenderableType]:
    """The screen, from above."""
    figures = seen.figures()
    first, *_ = views.headline(views.heading(fleet, figures.in_flight if figures else None))
    lines = [screen.text(first, "bold")]
    if fleet.routers and seen.problem:
        lines.append(screen.text(seen.problem))
    tables = [traffic.routers(fleet, seen, everywhere), traffic.servers(fleet, seen, everywhere)]
    if seen.after.told:
        tables.append(traffic.models(seen))
    return [*lines, *(part for table in tables for part in (screen.text(""), screen.drawn(table)))]
