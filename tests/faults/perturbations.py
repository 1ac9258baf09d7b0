"""What is tried on a scenario, worked out from its clean run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tests.faults.faults import (
    Cut,
    Deaf,
    Expired,
    Hide,
    Late,
    Lost,
    Moment,
    Refuse,
    Stale,
    Torn,
)
from tests.faults.proxy import Fault
from tests.faults.run import Arm, Record

T = TypeVar("T")
_MOMENTS: tuple[Moment, ...] = ("before", "after")
_CHANGES = ("ADDED", "MODIFIED", "DELETED")
_NOBODYS = ("Node", "ResourceSlice", "StorageClass")


@dataclass(frozen=True)
class Perturbation:
    """A fault to be made for a run."""

    sort: str
    name: str
    arm: Arm


def all_of(clean: Record) -> list[Perturbation]:
    """Each write cut twice, the first and the last of each sort of event hidden, each other
    fault once."""
    return [*_cuts(clean), *_hidden(clean), *_others()]


def sample(found: Sequence[T], count: int | None) -> list[T]:
    """At most so many, spread evenly, the first and the last among them."""
    if count is None or count >= len(found):
        return list(found)
    if count < 2:
        return list(found[:count])
    return [found[round(at * (len(found) - 1) / (count - 1))] for at in range(count)]


def _cuts(clean: Record) -> list[Perturbation]:
    seen: Counter[str] = Counter()
    found = []
    for what in clean.writes:
        seen[what] += 1
        for moment in _MOMENTS:
            name = f"killed {moment} '{what}' ({seen[what]})"
            arm = partial(Cut, what, seen[what], moment)
            found.append(Perturbation("cut", name, arm))
    return found


def _hidden(clean: Record) -> list[Perturbation]:
    counts = Counter(
        what
        for what in clean.events
        if what.split()[0] in _CHANGES and what.split()[1] not in _NOBODYS
    )
    return [
        _plain("hidden", f"'{what}' ({nth}) hidden", partial(Hide, what, nth))
        for what, count in sorted(counts.items())
        for nth in sorted({1, count})
    ]


def _others() -> list[Perturbation]:
    faults: tuple[tuple[str, Callable[[], Fault]], ...] = (
        ("all watches silent", Deaf),
        ("all late by a second", partial(Late, 1.0)),
        ("watches torn at every 5th event", partial(Torn, 5)),
        ("410 within a watch, every 5th event", partial(Expired, 5, within=True)),
        ("410 as the answer to a watch, every 5th event", partial(Expired, 5, within=False)),
        ("409 to every 4th write", partial(Refuse, 409, "Conflict", 4)),
        (
            "429 to every 4th request",
            partial(Refuse, 429, "TooManyRequests", 4, retry_after=1),
        ),
        ("500 to every 4th request", partial(Refuse, 500, "InternalError", 4)),
        ("every 3rd write's answer lost", partial(Lost, 3)),
        ("every other list stale", Stale),
    )
    return [_plain("other", name, make) for name, make in faults]


def _plain(sort: str, name: str, make: Callable[[], Fault]) -> Perturbation:
    return Perturbation(sort, name, lambda kill: make())
