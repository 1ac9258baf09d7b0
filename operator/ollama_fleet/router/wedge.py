"""When a model on a server is taken for wedged: completions never answer again, all else does.

Ollama can come to that when a client leaves early. No path of its API shows it, so it is inferred,
here from what one router sees; pure, with the clock as an argument. Seconds throughout.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

LEAST = 30.0
"""Silence that is always borne."""
CHECK = 10.0
"""For how long a router's own tiny request must have waited, too."""
UNSTREAMED = 300.0
"""What an answer in one piece may take where nothing is known of the model."""
PER_BYTE = 0.01
"""What a byte of a request may take where nothing is known: some 25 tokens a second."""
KNOWN = 20
"""Answers after which a model is known."""
LOAD = 600.0
"""Silence that is borne of a model that has not answered since it is listed as loaded: servers
list some that they still load."""


class Stage(Enum):
    """What to make of a model on a server."""

    CALM = "calm"
    SUSPECT = "suspect"
    WEDGED = "wedged"


@dataclass(frozen=True, slots=True)
class Usual:
    """The slowest of what was normal for a model lately, on any server that had it in memory.

    `first` is until the first byte of a streamed answer, `whole` until the last of any, `per_byte`
    the first by the size of the request; `answers` counts them.
    """

    answers: int = 0
    first: float = 0.0
    whole: float = 0.0
    per_byte: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request without a first byte: when it was sent, its size, whether it asks for a stream."""

    sent: float
    size: int
    streams: bool


@dataclass(frozen=True, slots=True)
class Sight:
    """What a router sees of a model on a server.

    `heard` is when it last sent a byte and `left` when a client last left early (0: never);
    `streams` counts its answers under way; `blocked`: another model is being loaded there;
    `answered`: it has, since it is in memory; `checking` is for how long the router's own request
    has waited, None where there is none.
    """

    loaded: bool
    answered: bool
    heard: float
    left: float
    waiting: tuple[Waiting, ...]
    streams: int = 0
    blocked: bool = False
    checking: float | None = None


def stage(sight: Sight, usual: Usual, now: float) -> Stage:
    """What to make of it.

    A server is accused only where nothing at all comes of the model: whoever streams has a slot,
    and the others may be waiting for it. What waits may be long in the making; how long is judged
    by what was normal. Without a client that left early, there is less reason to suspect.
    """
    if not sight.waiting or not sight.loaded or sight.streams or sight.blocked:
        return Stage.CALM
    silent = now - max(sight.heard, min(one.sent for one in sight.waiting))
    early = 0.0 < sight.left >= sight.heard
    enough = patience(sight.waiting, usual)
    if not sight.answered:
        enough = max(enough, LOAD)
    elif not early:
        enough *= 2
    if silent >= enough and sight.checking is not None and sight.checking >= CHECK:
        return Stage.WEDGED
    return Stage.SUSPECT if silent >= enough / (3 if early else 2) else Stage.CALM


def patience(waiting: Iterable[Waiting], usual: Usual) -> float:
    """The silence that these requests may explain. Others, of clients that this router knows
    nothing of, may come before them, so that whole answers count."""
    known = usual.answers >= KNOWN
    rate = usual.per_byte if known else max(usual.per_byte, PER_BYTE)
    longest = max(LEAST, 2 * usual.first, 1.5 * usual.whole)
    for one in waiting:
        longest = max(longest, 2 * rate * one.size)
        if not one.streams:
            longest = max(longest, 3 * usual.whole if known else UNSTREAMED)
    return longest
