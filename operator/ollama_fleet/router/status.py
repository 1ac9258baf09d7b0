"""Status lines, ready to send."""

from http import HTTPStatus
from typing import Final

_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus
}


def status_line(status: int) -> bytes:
    """The first line of a response, without its CR LF."""
    return _LINES.get(status) or f"HTTP/1.1 {status} ".encode()
