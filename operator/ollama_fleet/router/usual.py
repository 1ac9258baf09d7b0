"""What is normal for a model: the slowest of its answers within the last while."""

from ollama_fleet.router.wedge import Usual

WINDOW = 900.0
"""Seconds after which figures begin to be forgotten; after twice that they are."""
SMALL = 2048
"""Bytes of a request below which its size says nothing."""


class History:
    """Answers of one model, from servers that had it in memory.

    Every answer comes here, so figures are kept in place, and put together only when asked for.
    """

    __slots__ = ("_answers", "_before", "_first", "_per_byte", "_since", "_whole")

    def __init__(self, now: float) -> None:
        self._before = Usual()
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since = now
        self._answers = 0
        self._first = self._whole = self._per_byte = 0.0

    def answered(self, now: float, first: float, whole: float, size: int, streamed: bool) -> None:
        """An answer is complete: seconds until its first and last byte, bytes of its request."""
        if now - self._since >= WINDOW:
            self._turn(now)
        self._answers += 1
        if whole > self._whole:
            self._whole = whole
        if streamed:
            if first > self._first:
                self._first = first
            if size >= SMALL and first > self._per_byte * size:
                self._per_byte = first / size

    def usual(self, now: float) -> Usual:
        """What is normal now."""
        if now - self._since >= WINDOW:
            self._turn(now)
        before = self._before
        return Usual(
            before.answers + self._answers,
            max(before.first, self._first),
            max(before.whole, self._whole),
            max(before.per_byte, self._per_byte),
        )

    def _turn(self, now: float) -> None:
        late = now - self._since >= 2 * WINDOW
        self._before = (
            Usual() if late else Usual(self._answers, self._first, self._whole, self._per_byte)
        )
        self._begin(now)
