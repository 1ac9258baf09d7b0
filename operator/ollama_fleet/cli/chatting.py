"""`chat`: talk to a model through a Router."""

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from ollama_fleet.api.access import Access, header_fault
from ollama_fleet.cli.completing import any_model, any_router
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import chosen_router
from ollama_fleet.cli.session import Session, command
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import ROUTER
from ollama_fleet.ollama.errors import OllamaResponseError, Unreachable

if TYPE_CHECKING:
    from ollama_fleet.ollama.client import OllamaClient

_KEY = "OLLAMA_FLEET_KEY"


def address(router: Object) -> str:
    """Where a Router answers; NotPossible where it says nothing yet."""
    url = (router.get("status") or {}).get("url")
    if not url:
        name = router["metadata"]["name"]
        raise NotPossible(f"Router {name} has no address yet: kubectl describe router {name}")
    return str(url)


@click.command()
@click.argument("model", shell_complete=any_model)
@click.argument("prompt", nargs=-1)
@click.option(
    "--router", metavar="NAME", shell_complete=any_router, help="Where there are several."
)
@click.option("--url", metavar="URL", help="Where the Router answers, if not as its status says.")
@click.option("--key", envvar=_KEY, metavar="KEY", help=f"The client's key; also from {_KEY}.")
@command()
async def chat(
    session: Session,
    model: str,
    prompt: tuple[str, ...],
    router: str | None,
    url: str | None,
    key: str | None,
) -> None:
    """Ask MODEL through a Router.

    Without PROMPT each line of the input is a question.
    """
    # aiohttp takes 0.1 s to read: only who chats pays it
    from ollama_fleet.ollama.client import OllamaClient

    if key and header_fault("Authorization", f"Bearer {key}") is not None:
        raise NotPossible("the key holds characters that no key has: give it on one line, in ASCII")
    if url is None:
        routers = await session.kube.list(ROUTER, session.namespace)
        url = address(chosen_router(routers, router, session.namespace))
    access = Access((("Authorization", f"Bearer {key}"),) if key else ())
    messages: list[dict[str, str]] = []
    async with OllamaClient(url, access) as client:
        if prompt:
            await _ask(client, model, messages, " ".join(prompt))
            return
        while (question := _question()) is not None:
            if question:
                await _ask(client, model, messages, question)


async def _ask(
    client: "OllamaClient", model: str, messages: list[dict[str, str]], question: str
) -> None:
    """Print the answer as it comes, and remember both."""
    messages.append({"role": "user", "content": question})
    answer = ""
    try:
        async with aclosing(client.chat(model, messages)) as pieces:
            async for piece in pieces:
                answer += piece
                print(piece, end="", flush=True)
    except Unreachable as error:
        raise NotPossible(
            f"{error}. If that is an address inside the cluster: kubectl port-forward "
            "service/ROUTER 11500:11434, and --url http://127.0.0.1:11500"
        ) from None
    except OllamaResponseError as error:
        if error.status != 401:
            raise
        raise NotPossible(f"{error}. Give a key: --key KEY, or {_KEY}") from None
    finally:
        if answer:
            print(flush=True)
    messages.append({"role": "assistant", "content": answer})


def _question() -> str | None:
    """A line of the input; None at its end."""
    if sys.stdin.isatty():
        print("> ", end="", flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None
