"""What an answer says of itself at its end: how many tokens went in and came out."""

from collections.abc import Iterable
from typing import Final

TAIL_BYTES: Final = 4096
_MOST_DIGITS: Final = 12
_OLLAMA: Final = (b'"prompt_eval_count":', b'"eval_count":')
_OPENAI: Final = (b'"prompt_tokens":', b'"completion_tokens":')
_ANTHROPIC: Final = (b'"input_tokens":', b'"output_tokens":')

Usage = tuple[int | None, int | None]
"""Tokens taken in and given out, as far as they are told."""


def usage_of(tail: bytes) -> Usage:
    """The usage as the three APIs tell it at the end of an answer.

    Inside a JSON string a quote is escaped, so generated text cannot be taken for a count.
    """
    if b'eval_count":' in tail:
        return _counts(tail, _OLLAMA)
    if b'put_tokens":' in tail:
        return _counts(tail, _ANTHROPIC)
    return _counts(tail, _OPENAI)


def tail_of(pieces: Iterable[bytes]) -> bytes:
    """The end of an answer, where its usage stands."""
    return b"".join(pieces)[-TAIL_BYTES:]


def _counts(tail: bytes, keys: tuple[bytes, bytes]) -> Usage:
    taken, given = keys
    return _count(tail, taken), _count(tail, given)


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
