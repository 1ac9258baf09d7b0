"""HTTP/1.1 message framing, accepted only where it can be read in one way (RFC 9112).

What a client sends is parsed once, by a grammar that has no lenient corner: a bare CR or LF, an
obsolete line folding, two lengths, a doubtful Host or a transfer coding other than `chunked` is
refused rather than repaired, so that no server behind the router can read it differently.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_fleet.router.keys import Caller
    from ollama_fleet.router.routes import Route

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_FIELDS = rb"((?:" + _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
_REQUEST = re.compile(rb"([A-Z]{1,16}) (/[\x21\x22\x24-\x7e]*+) HTTP/1\.([01])\r\n" + _FIELDS)
_RESPONSE = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n" + _FIELDS
)
_FIELD = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")
_HOST = re.compile(rb"(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_LONE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_CHUNK_SIZE_START = re.compile(rb"[0-9A-Fa-f]{0,8}|[0-9A-Fa-f]{1,8}\r")

HEAD_END = b"\r\n\r\n"

Field = tuple[bytes, bytes]
"""A header field: its name in lower case, its value without leading white space."""

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Fields that speak of one connection; each side writes its own."""

EXPLAIN = b"x-ollama-fleet-decision"
"""A client that sends this field is told which server was chosen, and why."""

_MEANINGFUL = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"expect",
        b"upgrade",
        EXPLAIN,
    )
)
_NO_NAMES: frozenset[bytes] = frozenset()


class FramingError(Exception):
    """A message that cannot be read in one way; `status` is what a client is answered."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Request:
    """A request as received: its head, what it means, and in time its body.

    `caller` is there only once a gate has set it: without keys it costs nothing.
    """

    __slots__ = (
        "body",
        "caller",
        "chunked",
        "expects",
        "explains",
        "fields",
        "keep_alive",
        "length",
        "method",
        "minor",
        "nominated",
        "route",
        "target",
        "upgrade",
    )
    caller: "Caller"

    def __init__(self, method: bytes, target: bytes, minor: int, fields: list[Field]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.length = 0
        self.chunked = False
        self.keep_alive = minor == 1
        self.expects = False
        self.explains = False
        self.upgrade = b""
        self.route: Route | None = None
        self.nominated = _NO_NAMES
        self.body = b""


class Response:
    """The head of a server's response. `length` is None where no length is declared."""

    __slots__ = ("chunked", "fields", "keep_alive", "length", "nominated", "status")

    def __init__(self, status: int, minor: int, fields: list[Field]) -> None:
        self.status = status
        self.fields = fields
        self.keep_alive = minor == 1
        self.length: int | None = None
        self.chunked = False
        self.nominated = _NO_NAMES


def parse_request(head: bytes) -> Request:
    """Read a request head that ends with its empty line; raises `FramingError` (400, 417, 505)."""
    match = _REQUEST.fullmatch(head)
    if match is None:
        raise _request_fault(head)
    method, target, minor, block = match.groups()
    fields = [(name.lower(), value) for name, value in _FIELD.findall(block)]
    request = Request(method, target, 1 if minor == b"1" else 0, fields)
    hosts = 0
    lengths = 0
    for name, value in fields:
        if name not in _MEANINGFUL:
            continue
        if name == b"host":
            hosts += 1
            if _HOST.fullmatch(value.rstrip()) is None:
                raise FramingError(400, "the Host header is not a host name")
        elif name == b"content-length":
            lengths += 1
            request.length = _length(value)
        elif name == b"transfer-encoding":
            if request.minor == 0:
                raise FramingError(400, "HTTP/1.0 has no Transfer-Encoding")
            if request.chunked or value.rstrip().lower() != b"chunked":
                raise FramingError(400, "the only Transfer-Encoding is one 'chunked'")
            request.chunked = True
        elif name == b"connection":
            _connection(request, value)
        elif name == b"expect":
            if value.rstrip().lower() != b"100-continue":
                raise FramingError(417, "the only Expect is '100-continue'")
            request.expects = request.minor == 1
        elif name == b"upgrade":
            request.upgrade = value.rstrip().lower()
        else:
            request.explains = True
    if hosts > 1 or (hosts == 0 and request.minor == 1):
        raise FramingError(400, "a request needs exactly one Host header")
    if lengths > 1 or (lengths and request.chunked):
        raise FramingError(400, "a request needs one length: Content-Length or chunked, once")
    return request


def parse_response(head: bytes) -> Response:
    """Read a response head that ends with its empty line; raises `FramingError` (502)."""
    match = _RESPONSE.fullmatch(head)
    if match is None:
        raise FramingError(502, "the server's response head is malformed")
    minor, status, block = match.groups()
    fields = [(name.lower(), value) for name, value in _FIELD.findall(block)]
    response = Response(int(status), 1 if minor == b"1" else 0, fields)
    for name, value in fields:
        if name == b"content-length":
            if response.length is not None:
                raise FramingError(502, "the server declared two lengths")
            response.length = _length(value)
        elif name == b"transfer-encoding":
            if response.chunked or value.rstrip().lower() != b"chunked":
                raise FramingError(502, "the server used a transfer coding other than 'chunked'")
            response.chunked = True
        elif name == b"connection":
            _connection(response, value)
    if response.chunked and (response.length is not None or minor == b"0"):
        raise FramingError(502, "the server declared a length and a chunked body")
    return response


def head_fault(start: bytes) -> FramingError | None:
    """What is already wrong with an unfinished head, so that nobody waits for the rest of it."""
    if start and not 0x41 <= start[0] <= 0x5A:
        return FramingError(400, "a request starts with a method in capital letters")
    if _LONE_LINE_END.search(start):
        return FramingError(400, "lines end with CR LF")
    return None


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
        match = _CHUNK_SIZE.match(data, pos) if not self._line else None
        if match is not None:
            size, pos = match.group(1), match.end()
        else:
            # Cut somewhere inside: go on a byte at a time, at most ten of them.
            self._line += data[pos : pos + 1]
            pos += 1
            if not self._line.endswith(b"\r\n"):
                if _CHUNK_SIZE_START.fullmatch(self._line) is None:
                    raise FramingError(400, "a chunk needs a plain hexadecimal size")
                return pos
            size, self._line = self._line[:-2], b""
        self._left = int(size, 16) + 2
        self._last = self._left == 2
        return pos


def _length(value: bytes) -> int:
    digits = value.rstrip()
    if _LENGTH.fullmatch(digits) is None:
        raise FramingError(400, "Content-Length is one plain number")
    return int(digits)


def _connection(message: Request | Response, value: bytes) -> None:
    options = frozenset(option.strip() for option in value.lower().split(b","))
    if b"close" in options:
        message.keep_alive = False
    message.nominated |= options


def _request_fault(head: bytes) -> FramingError:
    """Say in which way a complete head is malformed."""
    if (fault := head_fault(head)) is not None:
        return fault
    line, _, block = head.partition(b"\r\n")
    parts = line.split(b" ")
    if len(parts) == 3 and re.fullmatch(rb"HTTP/[0-9]\.[0-9]", parts[2]):
        if not parts[2].startswith(b"HTTP/1."):
            return FramingError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        if not parts[1].startswith(b"/"):
            return FramingError(400, "the request target is a path that starts with '/'")
    if re.match(rb"[^\r\n]*\r\n$|" + _TOKEN + rb"++:", block) is None and block != b"\r\n":
        return FramingError(400, "a header field is 'name: value', with no space before the colon")
    if re.search(rb"\r\n[ \t]", head):
        return FramingError(400, "a header field stands on one line")
    return FramingError(400, "the request head is malformed")
