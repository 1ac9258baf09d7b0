"""Many changes, several namespaces at a time, and the table of what came of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence

from tests.faults.campaign import aligned
from tests.walk.rows import Change
from tests.walk.site import Site
from tests.walk.walking import Outcome, walk

_AT_MOST = 6
"""Changes in one namespace: more would leave the others with nothing to do in the end."""
_BAD = ("not converged", "not shown", "not restored", "not equal")
_HEADS = ("kind", "fields", "changes", "refused by rule", *_BAD, "seconds")


async def campaign(
    site: Site,
    changes: Iterable[Change],
    at_once: int,
    say: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """Walk them all; `say` gets what is not well, and a line for each that is."""
    outcomes: list[Outcome] = []
    places = asyncio.Semaphore(at_once)

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.steps.items())
        say(f"{outcome.change}: {steps or 'refused'}")
        for what, lines in outcome.faults.items():
            for line in lines:
                say(f"  {what}: {line}")

    async def some(part: list[Change]) -> None:
        async with places:
            await walk(site, part, done)

    async with asyncio.TaskGroup() as group:
        for part in parts(changes):
            group.create_task(some(part))
    return outcomes


def parts(changes: Iterable[Change]) -> list[list[Change]]:
    """Changes that can be made one after the other in one namespace."""
    groups: dict[str, list[Change]] = {}
    for one in changes:
        groups.setdefault(json.dumps([one.kind, one.base.name, one.before]), []).append(one)
    return [
        group[at : at + _AT_MOST]
        for group in groups.values()
        for at in range(0, len(group), _AT_MOST)
    ]


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per kind."""
    rows = [list(_HEADS)]
    for kind in dict.fromkeys(one.change.kind for one in outcomes):
        of = [one for one in outcomes if one.change.kind == kind]
        fields = len({one.change.path for one in of})
        bad = [sum(what in one.faults for one in of) for what in _BAD]
        cells = [fields, len(of), sum(one.refused for one in of), *bad]
        rows.append([kind, *map(str, cells), str(round(sum(one.seconds for one in of)))])
    return aligned(rows)
