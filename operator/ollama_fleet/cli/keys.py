"""`keys`: who may call a Router, in the Secret that it names (docs/guides/keys.md)."""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

import click

from ollama_fleet.api.access import SecretError, texts_in
from ollama_fleet.api.keys import Client, clients_in
from ollama_fleet.cli.completing import any_router
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import chosen_router
from ollama_fleet.cli.session import Session, command
from ollama_fleet.cli.table import Column, Record, Table, text
from ollama_fleet.kube import Object
from ollama_fleet.kube.access import value_of
from ollama_fleet.kube.kinds import ROUTER, SECRET

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_LIMITS = ("requestsPerMinute", "tokensPerMinute", "maxConcurrent", "weight")


def secret_of(router: Object) -> str:
    """The name of a Router's Secret; NotPossible where it asks for no key."""
    reference = (router["spec"].get("auth") or {}).get("keysSecretRef")
    if reference is None:
        name = router["metadata"]["name"]
        change = '{"spec":{"auth":{"keysSecretRef":{"name":"keys"}}}}'
        raise NotPossible(
            f"Router {name} serves whoever reaches it. To ask for keys: kubectl patch router "
            f"{name} --type merge -p '{change}'"
        )
    return str(reference["name"])


def entry(key: str, limits: dict[str, Any]) -> str:
    """What the Secret holds of a client: never its key."""
    given = {name: value for name, value in limits.items() if value}
    return json.dumps({"sha256": hashlib.sha256(key.encode()).hexdigest(), **given})


def listed(secret: Object | None) -> Table:
    """The clients and their limits; neither keys nor their digests."""
    rows: list[Record] = []
    if secret is not None:
        found = clients_in(texts_in(secret), value_of)
        rows = [_client(name, client) for name, client in found.good.items()]
        rows += [{"client": name, "problem": one.message} for name, one in found.faults.items()]
    rows.sort(key=lambda row: str(row["client"]))
    return Table(
        [
            Column("CLIENT", text("client")),
            Column("MODELS", _models, folds=True),
            Column("REQUESTS/MIN", text("requestsPerMinute"), right=True),
            Column("TOKENS/MIN", text("tokensPerMinute"), right=True),
            Column("CONCURRENT", text("maxConcurrent"), right=True),
            Column("WEIGHT", text("weight"), right=True),
        ],
        rows,
        empty="No client has a key. Give one: kubectl ollama keys create NAME",
        note="\n".join(row["problem"] for row in rows if "problem" in row),
    )


def _client(name: str, client: Client) -> Record:
    known = client.model_dump(by_alias=True, exclude_none=True, exclude={"sha256"})
    return {"client": name, **{key: known[key] for key in ("models", *_LIMITS) if key in known}}


def _models(row: Record) -> str:
    """Those it may ask for; of an entry that cannot be read nobody knows."""
    return "unreadable" if "problem" in row else text("models")(row) or "all"


@click.group()
def keys() -> None:
    """Manage the keys of a Router's clients."""


_ROUTER = click.option(
    "--router", metavar="NAME", shell_complete=any_router, help="Where there are several."
)


@keys.command(name="list")
@_ROUTER
@command(shows=True)
async def list_keys(session: Session, router: str | None) -> None:
    """List the clients and their limits."""
    name = await _secret(session, router)
    try:
        session.screen.table(listed(await session.kube.get(SECRET, name, session.namespace)))
    except SecretError as error:
        raise NotPossible(str(error)) from None


@keys.command()
@click.argument("client")
@_ROUTER
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only these models.")
@click.option("--requests-per-minute", type=click.IntRange(1), metavar="N")
@click.option("--tokens-per-minute", type=click.IntRange(1), metavar="N")
@click.option("--max-concurrent", type=click.IntRange(1), metavar="N")
@command()
async def create(
    session: Session,
    client: str,
    router: str | None,
    models: tuple[str, ...],
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    max_concurrent: int | None,
) -> None:
    """Make a key for CLIENT, and print it.

    Only now: no more than its digest is stored.
    """
    if not _NAME.fullmatch(client):
        raise NotPossible(f"{client!r} is no name for a client: use letters, digits, . _ -")
    name = await _secret(session, router)
    found = await session.kube.get(SECRET, name, session.namespace)
    if found is not None and client in (found.get("data") or {}):
        raise NotPossible(
            f"{client} has a key already: to rotate it, create {client}-2 and revoke {client} when "
            "the client has moved"
        )
    key = secrets.token_hex(32)
    limits = {
        "models": list(models),
        "requestsPerMinute": requests_per_minute,
        "tokensPerMinute": tokens_per_minute,
        "maxConcurrent": max_concurrent,
    }
    data = {client: base64.b64encode(entry(key, limits).encode()).decode()}
    if found is None:
        meta = {"name": name, "namespace": session.namespace}
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}
        await session.kube.create(made)
    else:
        await _change(session, found, data)
    click.echo(f"The key of {client}, which is shown only now:", err=True)
    click.echo(key)


@keys.command()
@click.argument("client")
@_ROUTER
@command()
async def revoke(session: Session, client: str, router: str | None) -> None:
    """Take CLIENT's key away.

    It is refused from the next request on.
    """
    name = await _secret(session, router)
    found = await session.kube.get(SECRET, name, session.namespace)
    clients = (found or {}).get("data") or {}
    if found is None or client not in clients:
        known = ", ".join(sorted(clients)) or "none"
        raise NotPossible(f"no client {client} in Secret {name}: there are {known}")
    await _change(session, found, {client: None})
    session.screen.line(f"{client} is refused within 2 s")


async def _secret(session: Session, router: str | None) -> str:
    routers = await session.kube.list(ROUTER, session.namespace)
    return secret_of(chosen_router(routers, router, session.namespace))


async def _change(session: Session, secret: Object, data: Mapping[str, str | None]) -> None:
    """Unless somebody else has changed it since it was read, which is a Conflict."""
    meta = secret["metadata"]
    patch = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "data": data}
    await session.kube.patch(SECRET, meta["name"], session.namespace, patch)
