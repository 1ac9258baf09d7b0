"""What all commands share: kubectl's flags, the connection, and errors in one line."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, get_args

import click

from ollama_fleet.cli.completing import any_namespace
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.screen import Format, Screen
from ollama_fleet.kube import Forbidden, Kube, KubeError
from ollama_fleet.kube.contexts import default_namespace
from ollama_fleet.ollama.errors import OllamaError

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED = 130


@dataclass(frozen=True)
class Session:
    """One command's way to the cluster and to the terminal."""

    kube: Kube
    screen: Screen
    namespace: str
    everywhere: bool = False
    kubeconfig: str | None = None
    """As given, and so the context, for programs that this one starts."""
    context: str | None = None

    @property
    def scope(self) -> str | None:
        """The namespace to read; None for all."""
        return None if self.everywhere else self.namespace


def command(
    *, shows: bool = False, prints: bool = False, everywhere: bool = False
) -> Callable[[Callable[..., Awaitable[int | None]]], Callable[..., None]]:
    """A command with kubectl's flags, whose first argument is the Session; what it returns is the
    exit code. ``shows``: it has -o; ``prints``: for JSON and YAML alone; ``everywhere``: -A."""

    def decorate(work: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
        @wraps(work)
        def run(
            *arguments: Any,
            kubeconfig: str | None,
            context: str | None,
            namespace: str | None,
            output: Format | None = None,
            all_namespaces: bool = False,
            **options: Any,
        ) -> None:
            async def connected() -> int | None:
                usual = default_namespace(kubeconfig, context)
                async with await Kube.connect(kubeconfig, context) as kube:
                    screen = Screen.standard(output or "")
                    where = namespace or usual
                    session = Session(kube, screen, where, all_namespaces, kubeconfig, context)
                    return await work(session, *arguments, **options)

            raise SystemExit(told(lambda: asyncio.run(connected())))

        for option in reversed(_options(_formats(shows, prints), everywhere)):
            run = option(run)
        return run

    return decorate


def told(work: Callable[[], int | None]) -> int:
    """Run it; what goes wrong is one line on standard error. The exit code."""
    try:
        return work() or 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except Forbidden as error:
        click.echo(f"error: {error}. Ask for that right: kubectl auth can-i --list", err=True)
    except (KubeError, OllamaError, NotPossible) as error:
        click.echo(f"error: {' '.join(str(error).split())}", err=True)
    return 1


def _formats(shows: bool, prints: bool) -> list[str]:
    formats = [form for form in get_args(Format) if form and (shows or prints)]
    return [form for form in formats if shows or form != "wide"]


def _options(formats: list[str], everywhere: bool) -> list[Callable[[Any], Any]]:
    made = [
        click.option(
            "--namespace",
            "-n",
            metavar="NAME",
            shell_complete=any_namespace,
            help="Instead of the context's.",
        ),
        click.option("--context", metavar="NAME", help="The kubeconfig's context to use."),
        click.option("--kubeconfig", metavar="FILE", help="Instead of KUBECONFIG."),
    ]
    if everywhere:
        made.insert(
            1, click.option("--all-namespaces", "-A", is_flag=True, help="In all namespaces.")
        )
    if formats:
        made.append(click.option("--output", "-o", type=click.Choice(formats), help="As what."))
    return made
