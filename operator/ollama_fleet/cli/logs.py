"""`logs`: what the pods behind a name have written."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import click

from ollama_fleet.api.quantity import seconds_of
from ollama_fleet.cli.completing import any_pods
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.pods import PARTS, label_of, of
from ollama_fleet.cli.screen import ACCENT, plain
from ollama_fleet.cli.session import Session, command
from ollama_fleet.kube import Forbidden, Kube, KubeError, Object
from ollama_fleet.kube.kinds import OLLAMA_NODE, POD

_TAIL = 10
"""Lines of each pod, where there are several and nobody says how many."""


def _seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """A duration in whole seconds, at least one."""
    try:
        return None if value is None else max(1, round(seconds_of(value)))
    except ValueError as error:
        raise click.BadParameter(f"{error}.", context, parameter) from None


@click.command()
@click.argument("name", shell_complete=any_pods)
@click.option("--follow", "-f", is_flag=True, help="Go on as more is written, until Ctrl-C.")
@click.option(
    "--tail",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"The last N lines of each pod; without: all of one pod, {_TAIL} of several.",
)
@click.option("--since", callback=_seconds, metavar="10m", help="Nothing that is older.")
@command()
async def logs(
    session: Session, name: str, follow: bool, tail: int | None, since: int | None
) -> int:
    """Show what the pods of NAME have written.

    NAME is server, router, operator, console or mirror, or else the name of an OllamaNode, of a
    server or of a Router.
    """
    pods = sorted(await _pods(session, name), key=lambda pod: (label_of(pod), str(pod["metadata"])))
    several = len(pods) > 1
    if tail is None and several and since is None:
        tail = _TAIL
    coloured = session.screen.coloured
    written = [_Written(session.kube, pod, several, coloured, follow, tail, since) for pod in pods]
    if not follow:
        return max([await one.show() for one in written])
    return max(await asyncio.gather(*(one.show() for one in written)))


async def _pods(session: Session, name: str) -> Sequence[Object]:
    part = PARTS.get(name)
    if part is None:
        pods = await session.kube.list(POD, session.namespace)
        return of(name, pods, await session.kube.list(OLLAMA_NODE, session.namespace))
    where = None if part.apart else session.namespace
    try:
        found = await session.kube.list(POD, where, part.selector)
    except Forbidden:
        if not part.apart:
            raise
        # whoever may not look everywhere may have said where
        found = await session.kube.list(POD, session.namespace, part.selector)
        where = session.namespace
    if not found:
        place = f"in namespace {where}" if where else "in any namespace"
        raise NotPossible(f"there is no pod of a {name} {place}: kubectl ollama doctor")
    return found


class _Written:
    """What one pod has written."""

    def __init__(
        self,
        kube: Kube,
        pod: Object,
        several: bool,
        coloured: bool,
        follow: bool,
        tail: int | None,
        since: int | None,
    ) -> None:
        self._name = f"{label_of(pod)}: " if several else ""
        self._prefix = click.style(self._name, fg=ACCENT) if coloured else self._name
        meta, (first, *_) = pod["metadata"], pod["spec"]["containers"]
        self._lines: AsyncGenerator[str, None] = kube.log(
            meta["name"],
            meta["namespace"],
            container=first["name"],
            follow=follow,
            tail=tail,
            since=since,
        )

    async def show(self) -> int:
        """Print it, line by line; the exit code."""
        try:
            async with aclosing(self._lines) as lines:
                async for line in lines:
                    click.echo(self._prefix + plain(line.rstrip("\r")), color=True)
        except KubeError as error:
            click.echo(f"error: {self._name}{' '.join(str(error).split())}", err=True)
            return 1
        return 0
