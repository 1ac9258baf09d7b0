"""One fault at a time upon the living fleet, and the table of what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION
from tests.cluster.audit import Audit
from tests.cluster.fleet import LARGE, SMALL
from tests.cluster.waiting import eventually
from tests.world.ground import MACHINES, Digests, World
from tests.world.witness import Witness

SERVERS = {"a-0", "a-1", "box", *(f"every on {one}" for one in MACHINES)}
_SIZES = {SMALL: 13e6, LARGE: 32e6}
_TWICE = 1e6
"""Bytes that a broken connection may cost without a pull having begun anew."""
_SAID_WITHIN = 120.0
_REST, _REST_WITHIN = 8.0, 120.0
"""Servers are asked every 30 s, so that what the fault has changed is known soon after."""


@dataclass(frozen=True)
class Fault:
    """`strike` arms it, and disarms it at its end. Then it lasts for `seconds` at least;
    people have to read what matches `says`. What is not promised is counted, but no failure."""

    name: str
    strike: Callable[[World], AbstractContextManager[None]]
    seconds: float = 0.0
    says: str = ""
    pulling: bool = True
    """Whether a pull is caught in its middle, and is to end well."""
    may_lose: bool = False
    may_cut: bool = False
    pulled: float = 0.0
    """Bytes that have to be pulled because of it, beside the pull caught."""

    def __str__(self) -> str:
        return self.name


@dataclass
class Outcome:
    """What came of a fault."""

    fault: Fault
    lasted: float = 0.0
    converged: float = 0.0
    asked: int = 0
    lost: int = 0
    cut: int = 0
    models_lost: list[str] = field(default_factory=list)
    twice: float = 0.0
    """Bytes."""
    writes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def measure(world: World, fault: Fault) -> Outcome:
    """Strike a fleet at rest, see it through, and leave it at rest."""
    result = Outcome(fault)
    try:
        _measure(world, fault, result)
    except AssertionError as error:
        result.wrong.append(str(error))
        if world.fleet.get(*MID):
            world.forget_pull()
    judge(fault, result)
    return result


def _measure(world: World, fault: Fault, result: Outcome) -> None:
    world.settles(SERVERS)
    before = world.digests()
    served = world.registry.served()
    witness, traffic = Witness(world.api, world.fleet.namespace), world.traffic()
    if fault.pulling:
        world.begin_pull()
    try:
        with traffic.flowing(), witness.looking():
            traffic.goes_on()
            began = time.monotonic()
            with fault.strike(world):
                armed = time.monotonic()
                while time.monotonic() < armed + fault.seconds:
                    time.sleep(0.2)
                if fault.says:
                    said = re.compile(fault.says)
                    eventually(
                        f"it says {fault.says}",
                        lambda: any(said.search(one) for one in witness.said),
                        within=_SAID_WITHIN,
                    )
            ended = time.monotonic()
            result.lasted = ended - began
            world.settles(SERVERS, *((LARGE,) if world.fleet.get(*MID) else ()))
            result.converged = time.monotonic() - ended
            traffic.goes_on()
            eventually("nothing is said any more", lambda: not witness.now)
    finally:
        result.asked, result.lost, result.cut = traffic.asked, traffic.lost, traffic.cut
        result.said, result.reasons = witness.said, traffic.reasons
    result.models_lost = lost(before, world.digests())
    pulls = 2 * _SIZES[LARGE] if world.fleet.get(*MID) else 0.0
    result.twice = max(0.0, world.registry.served() - served - pulls - fault.pulled)
    if world.fleet.get(*MID):
        world.forget_pull()
    world.settles(SERVERS)
    world.fleet.audit = Audit(world.cluster)
    try:
        world.fleet.rests(_REST, within=_REST_WITHIN)
    except AssertionError:
        result.writes = [f"{one.verb} {one.resource} {one.name}" for one in world.fleet.writes()]


MID = (MODEL_DISTRIBUTION, "mid")


def lost(before: Digests, after: Digests) -> list[str]:
    """Models that are no longer what they were, or no longer there."""
    return [
        f"{model} on {server}"
        for server, models in before.items()
        for model, digest in models.items()
        if after.get(server, {}).get(model) != digest
    ]


def judge(fault: Fault, result: Outcome) -> None:
    """Note what is wrong with what was counted."""
    for told, count, allowed in (
        ("requests lost", result.lost, fault.may_lose),
        ("streams cut", result.cut, fault.may_cut),
        ("models lost", len(result.models_lost), False),
        ("MB pulled twice", round(result.twice / 1e6) if result.twice > _TWICE else 0, False),
        ("writes at rest", len(result.writes), False),
    ):
        if count and not allowed:
            result.wrong.append(f"{count} {told}")


_HEADS = (
    "fault", "lasted", "chats", "lost", "cut", "models lost", "MB twice", "converged", "at rest",
    "said meanwhile",
)  # fmt: skip


def table(results: Iterable[Outcome]) -> str:
    """One line per fault; seconds, and writes at rest."""
    rows = [list(_HEADS)]
    for one in results:
        figures: list[object] = [
            f"{one.lasted:.0f} s", one.asked, one.lost, one.cut, len(one.models_lost),
            f"{one.twice / 1e6:.0f}", f"{one.converged:.0f} s", len(one.writes),
        ]  # fmt: skip
        rows.append([one.fault.name, *map(str, figures), _told(one)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at in (0, len(_HEADS) - 1) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _told(one: Outcome) -> str:
    """The reason that names the trouble, and of what."""
    if one.fault.says:
        for said in one.said:
            if re.search(one.fault.says, said):
                about, reason, *_ = said.split(": ")
                return about if " " in about else f"{about} {reason}"
    return "-"
