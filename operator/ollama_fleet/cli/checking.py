"""`doctor`: what is wrong with an installation, each finding with its fix."""

from dataclasses import dataclass, field

import click

from ollama_fleet.cli import views
from ollama_fleet.cli.fleet import Fleet, is_current, namespace_of, read
from ollama_fleet.cli.pods import PARTS
from ollama_fleet.cli.session import Session, command
from ollama_fleet.cli.table import Column, Record, Table, text
from ollama_fleet.kube import Forbidden, Object
from ollama_fleet.kube.kinds import (
    CUSTOM_RESOURCE_DEFINITION,
    DEPLOYMENT,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    ROUTER,
    Kind,
)

_KINDS = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)
_INSTALL = "Install the chart: helm upgrade --install ollama-fleet charts/ollama-fleet"


@dataclass(frozen=True)
class Installation:
    """What there is, besides the fleet. None: it may not be looked at."""

    definitions: list[Object] | None = field(default_factory=list)
    operators: list[Object] | None = field(default_factory=list)


def missing(there: Installation) -> Table:
    """What of the installation is not as it must be."""
    rows: list[Record] = []
    if there.definitions is None:
        rows.append(_row("CustomResourceDefinitions", "not checked: you may not list them", True))
    else:
        rows += _definitions(there.definitions)
    if there.operators is None:
        rows.append(_row("operator", "not checked: you may not list Deployments", True))
    else:
        rows += _operators(there.operators)
    return _table(rows)


def findings(there: Installation, fleet: Fleet) -> Table:
    """A row for each thing that was looked at in vain or is wrong, the installation first."""
    rows = missing(there).rows
    for one in fleet.resources:
        if not is_current(one):
            message = "the operator has not seen its newest spec: wait, or look at the operator"
            rows.append(_row(views.titled(one), message, where=namespace_of(one)))
    rows += [
        _row(row["what"], f"{row['reason']}: {row['message']}", where=row["namespace"])
        for row in views.attention(fleet).rows
    ]
    routed = {namespace_of(one) for one in fleet.routers}
    for namespace in sorted({namespace_of(one) for one in fleet.ollamanodes} - routed):
        message = "none, so clients reach no server: make one (kubectl explain router.spec)"
        rows.append(_row("Router", message, where=namespace))
    return _table(rows)


def _table(rows: list[Record]) -> Table:
    return Table(
        [
            Column("", lambda row: "-" if row["unknown"] else "!"),
            Column("NAMESPACE", text("namespace")),
            Column("WHAT", text("what")),
            Column("FINDING, AND WHAT TO DO", text("finding"), folds=True),
        ],
        rows,
        empty="Nothing is wrong.",
    )


def _definitions(definitions: list[Object]) -> list[Record]:
    known = {one["metadata"]["name"]: one for one in definitions}
    rows = []
    for kind in _KINDS:
        found = known.get(f"{kind.plural}.{kind.group}")
        if found is None:
            rows.append(_row(kind.kind, f"its definition is not installed. {_INSTALL}"))
        elif not _serves(found, kind):
            message = f"its definition does not serve {kind.version}. {_INSTALL}"
            rows.append(_row(kind.kind, message))
    return rows


def _serves(definition: Object, kind: Kind) -> bool:
    versions = definition["spec"]["versions"]
    return any(one["name"] == kind.version and one["served"] for one in versions)


def _operators(operators: list[Object]) -> list[Record]:
    if not operators:
        return [_row("operator", f"none is installed. {_INSTALL}")]
    rows = []
    for one in operators:
        name, namespace = one["metadata"]["name"], namespace_of(one)
        wanted = one["spec"].get("replicas", 1)
        ready = (one.get("status") or {}).get("readyReplicas", 0)
        if not wanted:
            message = (
                "it is scaled to 0, so nothing is kept up: "
                f"kubectl -n {namespace} scale deployment/{name} --replicas=1"
            )
            rows.append(_row(f"operator {name}", message, where=namespace))
        elif ready < wanted:
            message = (
                f"{ready} of {wanted} replicas are ready: see kubectl -n {namespace} "
                f"logs deployment/{name}"
            )
            rows.append(_row(f"operator {name}", message, where=namespace))
    return rows


def _row(what: str, finding: str, unknown: bool = False, where: str = "") -> Record:
    return {"namespace": where, "what": what, "finding": finding, "unknown": unknown}


@click.command()
@command(shows=True)
async def doctor(session: Session) -> int:
    """Check the whole installation.

    That is the definitions, the operator, and every resource you may see.

    Exit code 0: nothing is wrong. 1: something is.
    """
    there = Installation(
        await _list(session, CUSTOM_RESOURCE_DEFINITION),
        await _list(session, DEPLOYMENT, PARTS["operator"].selector),
    )
    absent = any(row["what"] in (kind.kind for kind in _KINDS) for row in missing(there).rows)
    table = missing(there) if absent else findings(there, await _fleet(session))
    session.screen.table(table)
    return 1 if any(not row["unknown"] for row in table.rows) else 0


async def _fleet(session: Session) -> Fleet:
    """In all namespaces, or in the one where that is not allowed."""
    try:
        return await read(session.kube, None)
    except Forbidden:
        return await read(session.kube, session.namespace)


async def _list(session: Session, kind: Kind, labels: str | None = None) -> list[Object] | None:
    try:
        return await session.kube.list(kind, None, labels)
    except Forbidden:
        return None
