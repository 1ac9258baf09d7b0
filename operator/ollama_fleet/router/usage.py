"""What an answer says of itself at its end: how many tokens went in and came out."""

from collections.abc import Iterable
from typing import Final

TAIL_BYTES: Final = 4096
_MOST_DIGITS: Final = 12

Usage = tuple[int | None, int | None]
"""Tokens taken in and given out, as far as they are told."""


def usage_of(tail: bytes) -> Usage:
    """The usage as the three APIs tell it at the end of an answer.

    Inside a JSON string a quote is escaped, so generated text cannot be taken for a count.
    """
    given = _count(tail, b'"eval_count":')
    if given is not None:
        return _count(tail, b'"prompt_eval_count":'), given
    if tail.rfind(b'_tokens":') < 0:
        return _count(tail, b'"prompt_eval_count":'), None
    taken, given = _count(tail, b'"input_tokens":'), _count(tail, b'"output_tokens":')
    if taken is None and given is None:
        taken, given = _count(tail, b'"prompt_tokens":'), _count(tail, b'"completion_tokens":')
    return taken, given


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
