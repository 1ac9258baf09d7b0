"""`dashboard`: the console's page in a browser, signed in."""

import asyncio
import re
import signal
import webbrowser
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import quote

import click

from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import namespace_of
from ollama_fleet.cli.pods import PARTS
from ollama_fleet.cli.session import Session, command
from ollama_fleet.kube import Forbidden, NotFound, Object
from ollama_fleet.kube.kinds import SERVICE

_HOURS = 8
"""How long a token that is asked for here is good, if the cluster allows it."""
_PATIENCE = 20.0
"""Seconds for kubectl to listen, and _LEAVE for it to end."""
_LEAVE = 5.0
_LISTENING = re.compile(r"Forwarding from (127\.0\.0\.1:\d+)")


@click.command()
@click.option("--url", metavar="URL", help="Where the console answers, if you can reach it.")
@click.option(
    "--token-of",
    metavar="SERVICEACCOUNT",
    help="Sign in as it, also NAMESPACE:NAME; without: with the kubeconfig's token.",
)
@click.option("--no-browser", is_flag=True, help="Print the address with the token instead.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Of this machine; without: any that is free.",
)
@command()
async def dashboard(
    session: Session, url: str | None, token_of: str | None, no_browser: bool, port: int
) -> None:
    """Open the console's page, signed in.

    Without --url that is by kubectl port-forward, until Ctrl-C.
    """
    token = await _token(session, token_of)
    if url is not None:
        await _open(session, url, token, no_browser)
        return
    async with _forwarded(session, await _service(session), port) as (address, ended):
        await _open(session, f"http://{address}", token, no_browser)
        session.screen.line("Ctrl-C ends it.")
        raise NotPossible(f"kubectl port-forward has ended: {await ended}. Try again")


async def _token(session: Session, account: str | None) -> str:
    """The kubeconfig's, or a new one for a service account."""
    if account is None:
        scheme, _, token = ((await session.kube.credentials()).authorization or "").partition(" ")
        if scheme == "Bearer" and token:
            return token
        raise NotPossible(
            "your kubeconfig has no token, as you are known by something else: give --token-of "
            f"SERVICEACCOUNT. {_made('me', session.namespace)}"
        )
    namespace, colon, name = account.rpartition(":")
    namespace = namespace if colon else session.namespace
    try:
        return await session.kube.token(name, namespace, seconds=_HOURS * 3600)
    except NotFound:
        raise NotPossible(
            f"there is no service account {name} in namespace {namespace}. {_made(name, namespace)}"
        ) from None


def _made(name: str, namespace: str) -> str:
    """How to make a service account that may see the fleet."""
    return (
        f"To make one: kubectl create serviceaccount {name} -n {namespace} && kubectl create "
        f"rolebinding {name} -n {namespace} --clusterrole=view --serviceaccount={namespace}:{name}"
    )


async def _service(session: Session) -> Object:
    """The console's."""
    part = PARTS["console"]
    try:
        found = await session.kube.list(SERVICE, None, part.selector)
    except Forbidden:
        found = await session.kube.list(SERVICE, session.namespace, part.selector)
    if len(found) > 1:
        spaces = ", ".join(sorted(namespace_of(one) for one in found))
        found = [one for one in found if namespace_of(one) == session.namespace]
        if not found:
            raise NotPossible(f"there are consoles in {spaces}: choose with -n")
    if not found:
        raise NotPossible(
            "no console is to be found: install the chart with console.enabled=true, or give the "
            "console's namespace with -n, or its --url"
        )
    return found[0]


async def _open(session: Session, url: str, token: str, no_browser: bool) -> None:
    """In a browser; its address with the token is printed where that is wanted alone."""
    page = url.rstrip("/") + "/"
    signed_in = f"{page}#token={quote(token, safe='')}"
    if no_browser:
        session.screen.line(signed_in)
        return
    session.screen.line(f"The dashboard is at {page}")
    if not await asyncio.to_thread(webbrowser.open, signed_in):
        raise NotPossible("there is no browser here: --no-browser prints the address to open")


@asynccontextmanager
async def _forwarded(
    session: Session, service: Object, port: int
) -> AsyncGenerator[tuple[str, "asyncio.Task[str]"], None]:
    """Host and port that lead to a Service, and what is said in the end; none are left behind."""
    meta, target = service["metadata"], service["spec"]["ports"][0]["port"]
    arguments = [
        "port-forward",
        f"--namespace={meta['namespace']}",
        "--address=127.0.0.1",
        f"service/{meta['name']}",
        f"{port or ''}:{target}",
    ]
    if session.context:
        arguments.append(f"--context={session.context}")
    if session.kubeconfig:
        arguments.append(f"--kubeconfig={session.kubeconfig}")
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, this.cancel)
    try:
        child = await asyncio.create_subprocess_exec(
            "kubectl",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError:
        raise NotPossible("kubectl is not on the PATH: give --url, or install it") from None
    try:
        assert child.stdout is not None
        listening: asyncio.Future[str] = loop.create_future()
        ended = asyncio.create_task(_read(child.stdout, listening))
        await asyncio.wait(
            (ended, listening), timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        if not listening.done():
            told = await ended if ended.done() else f"it does not listen after {_PATIENCE:g} s"
            raise NotPossible(f"kubectl port-forward: {told}")
        yield listening.result(), ended
    finally:
        await _end(child)


async def _read(output: asyncio.StreamReader, listening: "asyncio.Future[str]") -> str:
    """Read all that kubectl says; the last of it that is no matter of course."""
    last = "it says nothing"
    async for line in output:
        text = line.decode(errors="replace").strip()
        if found := _LISTENING.match(text):
            if not listening.done():
                listening.set_result(found[1])
        elif text and not text.startswith(("Forwarding from", "Handling connection")):
            last = text.removeprefix("error: ")
    return last


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.terminate()
        try:
            await asyncio.wait_for(child.wait(), _LEAVE)
        except TimeoutError:
            child.kill()
            await child.wait()
