"""All runs of a scenario, several at a time, and the table of what came of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.faults.grounds import Grounds
from tests.faults.perturbations import Perturbation, all_of, sample
from tests.faults.run import Record, Run, Verdict, verdict
from tests.faults.scenarios import Scenario

_SORTS = ("cut", "hidden", "other")
_BAD = ("lost", "duplicated", "stuck")
_HEADS = ("scenario", "writes", *_SORTS, "no occasion", *_BAD, "seconds")


@dataclass
class Result:
    """A scenario's."""

    scenario: str
    clean: Record
    tried: list[tuple[Perturbation, Verdict]] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    """Faults that there was no occasion for."""
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether anything was not as it ought to be."""
        return bool(self.clean.stuck) or any(
            one.lost or one.duplicated or one.stuck for _, one in self.tried
        )


async def campaign(
    grounds: Grounds,
    scenario: Scenario,
    count: int | None,
    at_once: int,
    only: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Result:
    """The clean run, then one for each perturbation, or for `count` of them spread evenly."""
    began = time.monotonic()
    clean = await Run(grounds, scenario, None).live()
    result = Result(scenario.name, clean)
    if clean.stuck:
        say(f"{scenario.name}, without any fault: stuck: {clean.stuck}")
        return result
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in clean.steps.items())
    say(f"{scenario.name}: {len(clean.writes)} writes; {steps}; {clean.seconds:.0f} s in all")
    places = asyncio.Semaphore(at_once)

    async def attempt(tried: Perturbation) -> None:
        async with places:
            record = await Run(grounds, scenario, clean).live(tried.arm)
        told = verdict(clean, record)
        if not record.met and not record.stuck:
            result.unmet.append(tried.name)
        else:
            result.tried.append((tried, told))
        for what, lines in vars(told).items():
            for line in lines:
                say(f"{scenario.name}, {tried.name}: {what}: {line}")

    wanted = [one for one in sample(all_of(clean), count) if only in one.name]
    async with asyncio.TaskGroup() as group:
        for one in wanted:
            group.create_task(attempt(one))
    for name in result.unmet:
        say(f"{scenario.name}: no occasion for: {name}")
    result.seconds = time.monotonic() - began
    return result


def table(results: Sequence[Result]) -> str:
    """One line per scenario."""
    rows = [list(_HEADS)]
    for one in results:
        sorts = [tried.sort for tried, _ in one.tried]
        bad = [sum(bool(getattr(told, what)) for _, told in one.tried) for what in _BAD]
        counts = [*(sorts.count(sort) for sort in _SORTS), len(one.unmet)]
        bad[-1] += bool(one.clean.stuck)
        cells = [len(one.clean.writes), *counts, *bad, round(one.seconds)]
        rows.append([one.scenario, *map(str, cells)])
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table in which columns stand one below the other, the first one to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
