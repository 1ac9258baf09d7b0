"""`retry`: what was given up is tried again."""

from datetime import UTC, datetime

import click

from ollama_fleet.cli.completing import any_retried
from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fleet import Task, tasks_of
from ollama_fleet.cli.session import Session, command
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION
from ollama_fleet.plan import anew


@click.command()
@click.argument("name", shell_complete=any_retried)
@command()
async def retry(session: Session, name: str) -> None:
    """Try again what was given up.

    NAME is a ModelDistribution, or a model: then it is all ModelDistributions that gave it up.
    Whatever else these gave up is tried again too.
    """
    found = await session.kube.list(MODEL_DISTRIBUTION, session.namespace)
    for one in given_up(name, found, session.namespace):
        meta = one["metadata"]
        change = anew.change(one, datetime.now(UTC))
        change["metadata"]["uid"] = meta["uid"]
        await session.kube.patch(MODEL_DISTRIBUTION, meta["name"], session.namespace, change)
        told = ", ".join(f"{task.model} on {task.server[1]}" for task in _failed(one))
        session.screen.line(f"ModelDistribution {meta['name']} tries again: {told}")


def given_up(name: str, distributions: list[Object], namespace: str) -> list[Object]:
    """The ModelDistributions that are meant and gave something up; NotPossible for none."""
    named = [one for one in distributions if one["metadata"]["name"] == name]
    found = [one for one in named if _failed(one)]
    if named and not found:
        raise NotPossible(
            f"ModelDistribution {name} has given nothing up: see kubectl ollama status"
        )
    found = found or [one for one in distributions if _failed(one, name)]
    if found:
        return found
    if any(tasks_of(one, name) for one in distributions):
        raise NotPossible(f"{name} was given up nowhere: see kubectl ollama status")
    known = ", ".join(sorted(one["metadata"]["name"] for one in distributions)) or "none"
    raise NotPossible(
        f"no ModelDistribution {name} in namespace {namespace}, nor one that wants such a model: "
        f"there are {known}"
    )


def _failed(distribution: Object, model: str | None = None) -> list[Task]:
    return [task for task in tasks_of(distribution, model) if task.state == "Failed"]
