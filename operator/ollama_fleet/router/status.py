"""Status lines, ready to send."""

from http import HTTPStatus

_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def status_line(status: int) -> bytes:
    """The first line of a response, with its CR LF."""
    return _LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()
