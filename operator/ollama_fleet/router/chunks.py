"""Chunked bodies (RFC 9112), followed through arbitrary cuts."""

import re
from typing import Final

from ollama_fleet.router.errors import FramingError

_CHUNK_SIZE_START: Final = re.compile(rb"[0-9A-Fa-f]{0,8}|[0-9A-Fa-f]{1,8}\r")
_SIZE_DIGITS: Final = 8
_HEXADECIMAL: Final = bytes(
    int(chr(byte), 16) if chr(byte) in "0123456789abcdefABCDEF" else 16 for byte in range(256)
)


class ChunkScanner:
    """Follows a chunked body through arbitrary cuts; no extensions, no trailers."""

    __slots__ = ("_last", "_left", "_line", "done")

    def __init__(self) -> None:
        self.done = False
        self._left = 0  # payload bytes of the current chunk still to come, and its CR LF
        self._last = False
        self._line = b""

    @property
    def announced(self) -> int:
        """Payload bytes of the current chunk still to come."""
        return max(0, self._left - 2)

    def feed(self, data: bytes, pos: int = 0, sink: list[bytes] | None = None) -> int:
        """Follow `data` from `pos`; returns where the body's part of it ends.

        The payload, without its framing, is appended to `sink`. Raises `FramingError` (400).
        """
        end = len(data)
        while pos < end and not self.done:
            if self._left > 2:
                stop = min(pos + self._left - 2, end)
                if sink is not None:
                    sink.append(data[pos:stop])
                self._left -= stop - pos
                pos = stop
            elif self._left:
                if data[pos] != (13 if self._left == 2 else 10):
                    raise FramingError(400, "a chunk is longer than its size says")
                self._left -= 1
                pos += 1
                self.done = self._last and not self._left
            else:
                pos = self._size_line(data, pos)
        return pos

    def _size_line(self, data: bytes, pos: int) -> int:
        if not self._line:
            end = len(data)
            size, at, stop = 0, pos, min(pos + _SIZE_DIGITS, end)
            while at < stop:
                digit = _HEXADECIMAL[data[at]]
                if digit > 15:
                    break
                size = size * 16 + digit
                at += 1
            if pos < at < end - 1 and data[at] == 13 and data[at + 1] == 10:
                self._left = size + 2
                self._last = not size
                return at + 2
        # Cut somewhere inside: go on a byte at a time, at most ten of them.
        self._line += data[pos : pos + 1]
        if self._line.endswith(b"\r\n"):
            size = int(self._line[:-2], 16)
            self._left = size + 2
            self._last = not size
            self._line = b""
        elif _CHUNK_SIZE_START.fullmatch(self._line) is None:
            raise FramingError(400, "a chunk needs a plain hexadecimal size")
        return pos + 1
