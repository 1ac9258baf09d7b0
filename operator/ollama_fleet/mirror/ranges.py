"""Range requests, as RFC 9110 has them: one range; of several, the whole is served instead."""

import re

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class UnsatisfiableError(Exception):
    """A range that begins beyond the end."""


def asked_range(
    header: str | None, if_range: str | None, etag: str, size: int
) -> tuple[int, int] | None:
    """Begin and end (exclusive) of what is asked for; None for the whole. Raises
    UnsatisfiableError."""
    if header is None or (if_range is not None and if_range != etag):
        return None
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        begin, end = max(0, size - int(found[2])), size
    else:
        begin, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < begin:
            return None
    if begin >= size:
        raise UnsatisfiableError
    return begin, end
