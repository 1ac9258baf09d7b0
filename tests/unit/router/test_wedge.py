"""Who is taken for wedged, and above all who is not."""

from dataclasses import replace
from typing import Any

import pytest

from ollama_fleet.router.usual import WINDOW, History
from ollama_fleet.router.wedge import (
    CHECK,
    KNOWN,
    LEAST,
    LOAD,
    PER_BYTE,
    UNSTREAMED,
    Sight,
    Stage,
    Usual,
    Waiting,
    patience,
    stage,
)

NOW = 10_000.0
QUICK = Usual(answers=KNOWN, first=1.0, whole=5.0, per_byte=0.0001)
CALM, SUSPECT, WEDGED = Stage.CALM, Stage.SUSPECT, Stage.WEDGED


def waits(seconds: float, size: int = 100, *, streams: bool = True) -> tuple[Waiting, ...]:
    return (Waiting(NOW - seconds, size, streams),)


def sight(seconds: float = 3 * LEAST, **changes: Any) -> Sight:
    """A streamed request waits for so long, after a client had left early; a check waits, too."""
    made = Sight(
        loaded=True,
        answered=True,
        heard=NOW - 1000,
        left=NOW - 900,
        waiting=waits(seconds),
        checking=CHECK,
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("seen", "usual", "expected"),
    [
        (sight(), QUICK, WEDGED),
        (sight(LEAST), QUICK, WEDGED),
        (sight(LEAST - 1), QUICK, SUSPECT),
        (sight(LEAST / 3), QUICK, SUSPECT),
        (sight(LEAST / 3 - 1), QUICK, CALM),
        # its own request must have waited, too
        (sight(checking=None), QUICK, SUSPECT),
        (sight(checking=CHECK - 1), QUICK, SUSPECT),
        # without a client that left since the last byte there is less reason
        (sight(2 * LEAST - 1, left=0.0), QUICK, SUSPECT),
        (sight(2 * LEAST, left=0.0), QUICK, WEDGED),
        (sight(2 * LEAST - 1, left=NOW - 1001), QUICK, SUSPECT),
        (sight(LEAST - 1, left=0.0), QUICK, CALM),
        # nobody waits, or it is at work
        (sight(waiting=()), QUICK, CALM),
        (sight(streams=1), QUICK, CALM),
        (sight(heard=NOW - 1), QUICK, CALM),
        (sight(heard=NOW - LEAST + 1), QUICK, CALM),
        (sight(heard=NOW - LEAST + 1, left=NOW - LEAST + 1), QUICK, SUSPECT),
        # out of memory, or behind a load
        (sight(loaded=False), QUICK, CALM),
        (sight(blocked=True), QUICK, CALM),
        # listed as in memory, and perhaps only on its way there
        (sight(LOAD - 1, answered=False, heard=0.0), QUICK, SUSPECT),
        (sight(LOAD / 3 - 1, answered=False, heard=0.0), QUICK, CALM),
        (sight(LOAD, answered=False, heard=0.0), QUICK, WEDGED),
        # long in the making: by its own past, by its size, as it comes in one piece
        (sight(119), Usual(KNOWN, first=60.0), SUSPECT),
        (sight(120), Usual(KNOWN, first=60.0), WEDGED),
        (sight(299), Usual(KNOWN, whole=200.0), SUSPECT),
        (sight(waiting=waits(199, 10_000)), Usual(KNOWN, per_byte=0.01), SUSPECT),
        (sight(waiting=waits(200, 10_000)), Usual(KNOWN, per_byte=0.01), WEDGED),
        (sight(waiting=waits(199, 10_000)), Usual(), SUSPECT),
        (sight(waiting=waits(89, streams=False)), Usual(KNOWN, whole=30.0), SUSPECT),
        (sight(waiting=waits(90, streams=False)), Usual(KNOWN, whole=30.0), WEDGED),
        (sight(waiting=waits(UNSTREAMED - 1, streams=False)), Usual(KNOWN - 1), SUSPECT),
        # the one that may take longest counts, and the one that waits longest
        (sight(waiting=waits(299) + waits(5, streams=False)), Usual(), SUSPECT),
        (sight(waiting=waits(1) + waits(LEAST)), QUICK, WEDGED),
    ],
)
def test_stages(seen: Sight, usual: Usual, expected: Stage) -> None:
    assert stage(seen, usual, NOW) is expected


def test_nothing_is_known_of_a_new_model() -> None:
    assert patience((), Usual()) == LEAST
    assert patience(waits(1, 10**6), Usual()) == 2 * PER_BYTE * 10**6
    assert patience(waits(1, 10**6), QUICK) == 200.0


def test_what_is_normal_is_the_slowest_of_late() -> None:
    history = History(0.0)
    assert history.usual(0.0) == Usual()
    history.answered(1.0, 0.5, 2.0, 100, streamed=True)
    history.answered(2.0, 4.0, 4.5, 4000, streamed=True)
    history.answered(3.0, 30.0, 30.0, 8000, streamed=False)
    assert history.usual(4.0) == Usual(3, 4.0, 30.0, 0.001)
    history.answered(WINDOW + 1, 1.0, 1.0, 100, streamed=True)
    assert history.usual(WINDOW + 2) == Usual(4, 4.0, 30.0, 0.001)
    assert history.usual(2 * WINDOW + 2) == Usual(1, 1.0, 1.0, 0.0)
    assert history.usual(9 * WINDOW) == Usual()
