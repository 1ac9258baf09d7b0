"""HTTP/1.1 message framing, accepted only where it can be read in one way (RFC 9112).

What a client sends is parsed once, by a grammar that has no lenient corner: a bare CR or LF, an
obsolete line folding, two lengths, a doubtful Host or a transfer coding other than `chunked` is
refused rather than repaired, so that no server behind the router can read it differently.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ollama_fleet.router.keys import Caller
    from ollama_fleet.router.routes import Route

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[\x21\x22\x24-\x7e]*+) HTTP/1\.([01])")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?")
_TOKENS: Final = re.compile(_TOKEN + rb"++")
_HOST_VALUE: Final = re.compile(rb"(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LONE_LINE_END: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_TEXT: Final = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))
_LENGTH_DIGITS: Final = 15

HEAD_END: Final = b"\r\n\r\n"

Field = tuple[bytes, bytes]
"""A header field: its name in lower case, its value without leading white space."""

HOP_BY_HOP: Final = frozenset(
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

EXPLAIN: Final = b"x-ollama-fleet-decision"
"""A client that sends this field is told which server was chosen, and why."""

_PRIVATE: Final = b"x-ollama-fleet-"
_NOT_TO_SERVERS: Final = (
    b"authorization",
    b"cookie",
    b"forwarded",
    b"http2-settings",
    b"x-api-key",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
)
_NOT_TO_CLIENTS: Final = (b"server", b"set-cookie", b"via")
_COMMON: Final = (
    b"accept",
    b"accept-encoding",
    b"accept-language",
    b"content-type",
    b"date",
    b"origin",
    b"referer",
    b"traceparent",
    b"tracestate",
    b"user-agent",
    b"vary",
    b"x-request-id",
)
# What a field is for: those that are neither listed nor private are passed on like common ones.
_OTHER: Final = 0
_PASSED: Final = 1
_KEPT: Final = 2
_HOST: Final = 3
_LENGTH: Final = 4
_CODING: Final = 5
_CONNECTION: Final = 6
_EXPECT: Final = 7
_UPGRADE: Final = 8
_EXPLAIN: Final = 9
_TYPE: Final = 10
_EITHER: Final[dict[bytes, int]] = {
    **dict.fromkeys(_COMMON, _PASSED),
    **dict.fromkeys(HOP_BY_HOP, _KEPT),
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
}
_OF_REQUESTS: Final[dict[bytes, int]] = {
    **_EITHER,
    **dict.fromkeys(_NOT_TO_SERVERS, _KEPT),
    b"host": _HOST,
    b"expect": _EXPECT,
    b"upgrade": _UPGRADE,
    EXPLAIN: _EXPLAIN,
}
_OF_RESPONSES: Final[dict[bytes, int]] = {
    **_EITHER,
    **dict.fromkeys(_NOT_TO_CLIENTS, _KEPT),
    b"content-type": _TYPE,
}
_STREAMS: Final = (b"application/x-ndjson", b"text/event-stream")
_NO_NAMES: Final[frozenset[bytes]] = frozenset()


class FramingError(Exception):
    """A message that cannot be read in one way; `status` is what a client is answered."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Request:
    """A request as received: its head, what it means, and in time its body.

    `lines` are its fields as they came, `passed` those of them that concern whoever answers.
    `caller` is there only once a gate has set it: without keys it costs nothing.
    """

    __slots__ = (
        "body",
        "caller",
        "chunked",
        "expects",
        "explains",
        "keep_alive",
        "length",
        "lines",
        "method",
        "minor",
        "nominated",
        "passed",
        "route",
        "target",
        "upgrade",
    )
    caller: "Caller"

    def __init__(self, method: bytes, target: bytes, minor: int, lines: list[bytes]) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.lines = lines
        self.passed: list[bytes] = []
        self.length = 0
        self.chunked = False
        self.keep_alive = minor == 1
        self.expects = False
        self.explains = False
        self.upgrade = b""
        self.route: Route | None = None
        self.nominated: frozenset[bytes] = _NO_NAMES
        self.body = b""

    @property
    def fields(self) -> list[Field]:
        """Every field, in order; made anew each time."""
        return [field_of(line) for line in self.lines]


class Response:
    """The head of a server's response. `length` is None where no length is declared.

    `passed` are the fields that concern the client, `streams` whether the type is one of a stream.
    """

    __slots__ = ("chunked", "keep_alive", "length", "nominated", "passed", "status", "streams")

    def __init__(self, status: int, minor: int) -> None:
        self.status = status
        self.passed: list[bytes] = []
        self.keep_alive = minor == 1
        self.length: int | None = None
        self.chunked = False
        self.streams = False
        self.nominated: frozenset[bytes] = _NO_NAMES


def field_of(line: bytes) -> Field:
    """The name and the value on a line."""
    name, _, value = line.partition(b":")
    return name.lower(), value.lstrip(b"\t ")


def parse_request(head: bytes) -> Request:
    """Read a request head that ends with its empty line; raises `FramingError` (400, 417, 505)."""
    lines = _lines_of(head)
    start = _request_line(lines[0]) if lines else None
    if start is None:
        raise _request_fault(head)
    method, target, minor = start
    del lines[0]
    request = Request(method, target, minor, lines)
    passed = request.passed
    others = b""
    hosts = 0
    lengths = 0
    for line in lines:
        colon = line.find(b":")
        name = line[:colon].lower()
        kind = _OF_REQUESTS.get(name, _OTHER)
        if colon < 1:
            raise _request_fault(head)
        if kind == _PASSED:
            passed.append(line)
        elif kind == _OTHER:
            others += name
            passed.append(line)
        elif kind == _HOST:
            hosts += 1
            if not _is_host(line[colon + 1 :].strip()):
                raise FramingError(400, "the Host header is not a host name")
        elif kind == _LENGTH:
            lengths += 1
            request.length = _length(line[colon + 1 :].strip())
        elif kind != _KEPT:
            _meaning(request, kind, line[colon + 1 :].strip().lower())
    if others and _TOKENS.fullmatch(others) is None:
        raise _request_fault(head)
    if hosts > 1 or (hosts == 0 and minor == 1):
        raise FramingError(400, "a request needs exactly one Host header")
    if lengths > 1 or (lengths and request.chunked):
        raise FramingError(400, "a request needs one length: Content-Length or chunked, once")
    return request


def _meaning(request: Request, kind: int, value: bytes) -> None:
    """Take in one of the rarer fields."""
    if kind == _CONNECTION:
        if value != b"keep-alive":
            options = _options(value)
            request.keep_alive = request.keep_alive and b"close" not in options
            request.nominated |= options
    elif kind == _CODING:
        if request.minor == 0:
            raise FramingError(400, "HTTP/1.0 has no Transfer-Encoding")
        if request.chunked or value != b"chunked":
            raise FramingError(400, "the only Transfer-Encoding is one 'chunked'")
        request.chunked = True
    elif kind == _EXPECT:
        if value != b"100-continue":
            raise FramingError(417, "the only Expect is '100-continue'")
        request.expects = request.minor == 1
    elif kind == _UPGRADE:
        request.upgrade = value
    else:
        request.explains = True


def parse_response(head: bytes) -> Response:
    """Read a response head that ends with its empty line; raises `FramingError` (502)."""
    lines = _lines_of(head)
    start = _status_line(lines[0]) if lines else None
    if start is None:
        raise FramingError(502, "the server's response head is malformed")
    status, minor = start
    del lines[0]
    response = Response(status, minor)
    passed = response.passed
    others = b""
    for line in lines:
        colon = line.find(b":")
        name = line[:colon].lower()
        kind = _OF_RESPONSES.get(name, _OTHER)
        if colon < 1:
            raise FramingError(502, "the server's response head is malformed")
        if kind == _PASSED:
            passed.append(line)
        elif kind == _TYPE:
            response.streams = line[colon + 1 :].lstrip().startswith(_STREAMS)
            passed.append(line)
        elif kind == _LENGTH:
            if response.length is not None:
                raise FramingError(502, "the server declared two lengths")
            response.length = _length(line[colon + 1 :].strip())
        elif kind == _CODING:
            if response.chunked or line[colon + 1 :].strip().lower() != b"chunked":
                raise FramingError(502, "the server used a transfer coding other than 'chunked'")
            response.chunked = True
        elif kind == _CONNECTION:
            options = _options(line[colon + 1 :].strip().lower())
            response.keep_alive = response.keep_alive and b"close" not in options
            response.nominated |= options
        elif kind == _OTHER:
            others += name
            if not name.startswith(_PRIVATE):
                passed.append(line)
    if others and _TOKENS.fullmatch(others) is None:
        raise FramingError(502, "the server's response head is malformed")
    if response.chunked and (response.length is not None or minor == 0):
        raise FramingError(502, "the server declared a length and a chunked body")
    return response


def _lines_of(head: bytes) -> list[bytes]:
    """The lines of a head, without the empty one at its end; none where a byte is out of place."""
    lines = head.split(b"\r\n")
    # Nothing but text between the line ends: no control characters, no CR or LF by itself.
    if len(head.translate(None, _TEXT)) != 2 * (len(lines) - 1):
        return []
    if lines.pop() or not lines or lines.pop():
        return []
    return lines


# What comes first, and the name they ask for, is the same for most requests, whatever the rest.
@lru_cache(maxsize=256)
def _request_line(line: bytes) -> tuple[bytes, bytes, int] | None:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return None
    method, target, minor = match.groups()
    return method, target, int(minor)


@lru_cache(maxsize=64)
def _status_line(line: bytes) -> tuple[int, int] | None:
    match = _STATUS_LINE.fullmatch(line)
    return None if match is None else (int(match[2]), int(match[1]))


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    return _HOST_VALUE.fullmatch(value) is not None


def head_fault(start: bytes) -> FramingError | None:
    """What is already wrong with an unfinished head, so that nobody waits for the rest of it."""
    if start and not 0x41 <= start[0] <= 0x5A:
        return FramingError(400, "a request starts with a method in capital letters")
    if _LONE_LINE_END.search(start):
        return FramingError(400, "lines end with CR LF")
    return None


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


def _length(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _LENGTH_DIGITS:
        raise FramingError(400, "Content-Length is one plain number")
    return int(digits)


def _options(value: bytes) -> frozenset[bytes]:
    return frozenset([option.strip() for option in value.split(b",")])


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
