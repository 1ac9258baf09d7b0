"""What an answer says of itself at its end: how many tokens went in and came out."""

from collections.abc import Iterable
from typing import Final

TAIL_BYTES: Final = 4096
_MOST_DIGITS: Final = 12

Usage = tuple[int | None, int | None]
"""Tokens taken in and given out, as far as they are told."""
Counts = tuple[bytes, bytes]
"""What the two are called."""

OLLAMA: Final[Counts] = (b'"prompt_eval_count":', b'"eval_count":')
COMPLETIONS: Final[Counts] = (b'"prompt_tokens":', b'"completion_tokens":')
MESSAGES: Final[Counts] = (b'"input_tokens":', b'"output_tokens":')


def usage_of(tail: bytes, counts: Counts) -> Usage:
    """The usage as an answer tells it at its end.

    Inside a JSON string a quote is escaped, so generated text cannot be taken for a count. Tools
    and what they are called with are objects, of which a client has a say: they come before the
    usage, and whatever other APIs call theirs is not looked for.
    """
    return _count(tail, counts[0]), _count(tail, counts[1])


def tail_of(pieces: Iterable[bytes]) -> bytes:
    """The end of an answer, where its usage stands."""
    return b"".join(pieces)[-TAIL_BYTES:]


def _count(tail: bytes, key: bytes) -> int | None:
    """The number behind the last `key`."""
    at = tail.rfind(key)
    if at < 0:
        return None
    at += len(key)
    if at < len(tail) and tail[at] == 0x20:
        at += 1
    end = at
    last = min(at + _MOST_DIGITS, len(tail))
    while end < last and 0x30 <= tail[end] <= 0x39:
        end += 1
    return int(tail[at:end]) if end > at else None
