"""Requests that a server on this machine is answering, as the kernel sees its connections.

Ollama does not tell how many it has. A connection tells: what a client sent last came after what
the server sent last (it waits for its answer), or the server goes on sending (it streams). One that
is merely kept open does neither. Asked of the kernel by netlink, `sock_diag(7)`, as `ss -ti` does.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

APART = 1.5
"""Seconds between two looks: a probe, answered at once, is not seen twice."""
STREAMS = 1000
"""Milliseconds a stream may pause."""

_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ESTABLISHED = 1
_INFO = 2
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_PORTS, _COOKIE = struct.Struct(">HH"), struct.Struct("=Q")
_MESSAGE_SIZE = 72
_TIMES, _TIMES_AT = struct.Struct("=IIII"), 44
_BYTES, _BYTES_AT = struct.Struct("=QQ"), 120
_DONE, _ERROR = 3, 2


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's connection: milliseconds since it sent and received, bytes it sent (and that
    arrived) and received."""

    since_sent: int
    since_received: int
    sent: int
    received: int

    @property
    def answering(self) -> bool:
        """Whether a request is under way on it."""
        if not self.received:
            return False
        waits = self.since_received < self.since_sent
        return not self.sent or waits or self.since_sent < STREAMS


Looks = Callable[[int], Mapping[int, Connection]]


async def in_flight(port: int, look: Looks | None = None, apart: float = APART) -> int | None:
    """How many requests the server at a port of this machine is answering; None where the kernel
    does not tell."""
    look = look or connections
    try:
        first = look(port)
        await asyncio.sleep(apart)
        second = look(port)
    except (OSError, struct.error):
        return None
    return sum(
        1
        for cookie, connection in second.items()
        if connection.answering and cookie in first and first[cookie].answering
    )


def connections(port: int) -> dict[int, Connection]:
    """A server's connections, by the kernel's name for each; raises OSError."""
    found: dict[int, Connection] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(2)
            kernel.send(_question(family))
            while True:
                answer = kernel.recv(1 << 18)
                found.update(read(answer, port))
                if ended(answer):
                    break
    return found


def _question(family: int) -> bytes:
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 1 << _ESTABLISHED)
    body += bytes(48)
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + body


def read(answer: bytes, port: int) -> Iterator[tuple[int, Connection]]:
    """The connections in an answer of the kernel that belong to a local port."""
    for kind, start, end in _messages(answer):
        if kind != _BY_FAMILY or _PORTS.unpack_from(answer, start + 4)[0] != port:
            continue
        (cookie,) = _COOKIE.unpack_from(answer, start + 44)
        at = start + _MESSAGE_SIZE
        while at + _ATTRIBUTE.size <= end:
            size, name = _ATTRIBUTE.unpack_from(answer, at)
            if size < _ATTRIBUTE.size:
                break
            if name == _INFO and size >= _ATTRIBUTE.size + _BYTES_AT + _BYTES.size:
                info = at + _ATTRIBUTE.size
                sent, _, received, _ = _TIMES.unpack_from(answer, info + _TIMES_AT)
                yield (
                    cookie,
                    Connection(sent, received, *_BYTES.unpack_from(answer, info + _BYTES_AT)),
                )
            at += (size + 3) & ~3


def ended(answer: bytes) -> bool:
    """Whether nothing follows; raises OSError where the kernel refuses."""
    for kind, start, _ in _messages(answer):
        if kind == _ERROR:
            raise OSError(-struct.unpack_from("=i", answer, start)[0], "sock_diag is refused")
        if kind == _DONE:
            return True
    return not answer


def _messages(answer: bytes) -> Iterator[tuple[int, int, int]]:
    at = 0
    while at + _HEADER.size <= len(answer):
        size, kind, *_ = _HEADER.unpack_from(answer, at)
        if size < _HEADER.size:
            return
        yield kind, at + _HEADER.size, at + size
        at += (size + 3) & ~3
