"""What is normal for a model: the slowest of its answers within the last while."""

from ollama_fleet.router.wedge import Usual

WINDOW = 900.0
"""Seconds after which figures begin to be forgotten; after twice that they are."""
SMALL = 2048
"""Bytes of a request below which its size says nothing."""


class History:
    """Answers of one model, from servers that had it in memory."""

    __slots__ = ("_before", "_since", "_usual")

    def __init__(self, now: float) -> None:
        self._since = now
        self._before = Usual()
        self._usual = Usual()

    def answered(self, now: float, first: float, whole: float, size: int, streamed: bool) -> None:
        """An answer is complete: seconds until its first and last byte, bytes of its request."""
        self._turn(now)
        per_byte = first / size if streamed and size >= SMALL else 0.0
        self._usual = _slower(self._usual, Usual(1, first if streamed else 0.0, whole, per_byte))

    def usual(self, now: float) -> Usual:
        """What is normal now."""
        self._turn(now)
        return _slower(self._before, self._usual)

    def _turn(self, now: float) -> None:
        if now - self._since >= WINDOW:
            late = now - self._since >= 2 * WINDOW
            self._before = Usual() if late else self._usual
            self._usual = Usual()
            self._since = now


def _slower(one: Usual, other: Usual) -> Usual:
    return Usual(
        one.answers + other.answers,
        max(one.first, other.first),
        max(one.whole, other.whole),
        max(one.per_byte, other.per_byte),
    )
