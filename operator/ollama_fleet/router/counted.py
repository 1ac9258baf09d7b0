"""Counting what a stream brings, where that is charged."""

from collections import deque

from ollama_fleet.router.call import Call


class Counted(deque[bytes]):
    """The last pieces of an answer; counts in its call the events of all of them: lines, or blocks
    of lines before an empty one. A chunk's own lines end with CR LF."""

    def __init__(self, call: Call, maxlen: int) -> None:
        super().__init__((), maxlen)
        self._call = call

    def append(self, piece: bytes) -> None:
        """Keep a piece, and count."""
        lines = piece.count(b"\n\n") or piece.count(b"\n") - piece.count(b"\r\n")
        self._call.events += lines
        super().append(piece)
