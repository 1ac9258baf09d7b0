"""HTTP/1.1 message framing, accepted only where it can be read in one way (RFC 9112).

What a client sends is parsed once, by a grammar that has no lenient corner: a bare CR or LF, an
obsolete line folding, two lengths, a doubtful Host or a transfer coding other than `chunked` is
refused rather than repaired, so that no server behind the router can read it differently.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ollama_fleet.router.errors import FramingError
from ollama_fleet.router.fields import (
    CODING,
    CONNECTION,
    ENCODING,
    EXPECT,
    FROM_CLIENTS,
    FROM_SERVERS,
    HOST,
    KEPT,
    KEPT_OFTEN,
    LENGTH,
    OF_REQUESTS,
    OF_RESPONSES,
    OTHER,
    PASSED,
    PASSED_ONCE,
    PRIVATE,
    STREAM_TYPE,
    STREAMS,
    TYPE,
    UPGRADE,
    Field,
)

if TYPE_CHECKING:
    from ollama_fleet.router.keys import Caller
    from ollama_fleet.router.routes import Route

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[\x21\x22\x24-\x7e]*+) HTTP/1\.([01])")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?")
_TOKENS: Final = re.compile(_TOKEN + rb"++")
_HOST_VALUE: Final = re.compile(rb"(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LONE_LINE_END: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_LENGTH_DIGITS: Final = 15
_NUL_FOR_CONTROLS: Final = bytes(
    byte if byte == 0x09 or 0x20 <= byte != 0x7F else 0 for byte in range(0x100)
)

BODILESS: Final = (204, 304)
"""Answers that end with their head, whatever that says."""
HEAD_END: Final = b"\r\n\r\n"

_NO_NAMES: Final[frozenset[bytes]] = frozenset()


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
    """Read a request head that ends with its empty line.

    Raises `FramingError` (400, 415, 417, 505).
    """
    lines = _lines_of(head)
    start = _request_line(lines[0]) if lines else None
    if start is None:
        raise _request_fault(head)
    method, target, minor = start
    del lines[0]
    request = Request(method, target, minor, lines)
    passed = request.passed
    familiar = FROM_CLIENTS.kinds
    news = []
    recurring = []
    hosts = 0
    lengths = 0
    for line in lines:
        kind = familiar.get(line, OTHER)
        if kind == PASSED:
            passed.append(line)
        elif kind == HOST:
            hosts += 1
        elif kind != KEPT_OFTEN:
            news.append(line)
            name, colon, value = line.partition(b":")
            kind = OF_REQUESTS.get(name.lower(), OTHER)
            if kind == PASSED_ONCE:
                passed.append(line)
            elif kind == PASSED:
                recurring.append(line)
                passed.append(line)
            elif kind == KEPT_OFTEN:
                recurring.append(line)
            elif kind == LENGTH:
                lengths += 1
                request.length = _length(value)
            elif kind == HOST:
                hosts += 1
                if _HOST_VALUE.fullmatch(value.strip()) is None:
                    raise FramingError(400, "the Host header is not a host name")
                recurring.append(line)
            elif kind == OTHER:
                if _TOKENS.fullmatch(name) is None:
                    raise _request_fault(head)
                passed.append(line)
            elif kind != KEPT:
                _meaning(request, kind, value.strip().lower())
            if not colon:
                raise _request_fault(head)
    if not _is_text(news):
        raise _request_fault(head)
    if hosts > 1 or (hosts == 0 and minor == 1):
        raise FramingError(400, "a request needs exactly one Host header")
    if lengths > 1 or (lengths and request.chunked):
        raise FramingError(400, "a request needs one length: Content-Length or chunked, once")
    if recurring:
        FROM_CLIENTS.remember(recurring)
    return request


def _meaning(request: Request, kind: int, value: bytes) -> None:
    """Take in one of the rarer fields."""
    if kind == CONNECTION:
        if value != b"keep-alive":
            options = _options(value)
            request.keep_alive = request.keep_alive and b"close" not in options
            request.nominated |= options
    elif kind == CODING:
        if request.minor == 0:
            raise FramingError(400, "HTTP/1.0 has no Transfer-Encoding")
        if request.chunked or value != b"chunked":
            raise FramingError(400, "the only Transfer-Encoding is one 'chunked'")
        request.chunked = True
    elif kind == EXPECT:
        if value != b"100-continue":
            raise FramingError(417, "the only Expect is '100-continue'")
        request.expects = request.minor == 1
    elif kind == UPGRADE:
        request.upgrade = value
    elif kind == ENCODING:
        # what is not read here could be read as something else by a server
        if value not in (b"", b"identity"):
            raise FramingError(415, "send the body as it is: Content-Encoding is not read here")
    else:
        request.explains = True


def parse_response(head: bytes) -> Response:
    """Read a response head that ends with its empty line; raises `FramingError` (502)."""
    lines = _lines_of(head)
    start = _status_line(lines[0]) if lines else None
    if start is None:
        raise _response_fault()
    status, minor = start
    del lines[0]
    response = Response(status, minor)
    passed = response.passed
    familiar = FROM_SERVERS.kinds
    news = []
    recurring = []
    for line in lines:
        kind = familiar.get(line, OTHER)
        if kind == PASSED:
            passed.append(line)
        elif kind == STREAM_TYPE:
            response.streams = True
            passed.append(line)
        else:
            news.append(line)
            name, colon, value = line.partition(b":")
            name = name.lower()
            kind = OF_RESPONSES.get(name, OTHER)
            if kind == PASSED_ONCE:
                passed.append(line)
            elif kind == PASSED:
                recurring.append(line)
                passed.append(line)
            elif kind == LENGTH:
                if response.length is not None:
                    raise FramingError(502, "the server declared two lengths")
                response.length = _length(value)
            elif kind == OTHER:
                if _TOKENS.fullmatch(name) is None:
                    raise _response_fault()
                if not name.startswith(PRIVATE):
                    passed.append(line)
            elif kind == TYPE:
                response.streams = value.lstrip().startswith(STREAMS)
                recurring.append(line)
                passed.append(line)
            elif kind == CODING:
                if response.chunked or value.strip().lower() != b"chunked":
                    raise FramingError(
                        502, "the server used a transfer coding other than 'chunked'"
                    )
                response.chunked = True
            elif kind == CONNECTION:
                options = _options(value.strip().lower())
                response.keep_alive = response.keep_alive and b"close" not in options
                response.nominated |= options
            if not colon:
                raise _response_fault()
    if not _is_text(news):
        raise _response_fault()
    if response.chunked and (response.length is not None or minor == 0):
        raise FramingError(502, "the server declared a length and a chunked body")
    if status in BODILESS and (response.chunked or response.length):
        # whoever reads it takes what follows for the next answer
        raise FramingError(502, f"the server declared a body for {status}")
    if recurring:
        FROM_SERVERS.remember(recurring)
    return response


def _response_fault() -> FramingError:
    return FramingError(502, "the server's response head is malformed")


def _lines_of(head: bytes) -> list[bytes]:
    """The lines of a head, without the empty one at its end; none where it does not end so."""
    lines = head.split(b"\r\n")
    if lines.pop() or not lines or lines.pop():
        return []
    return lines


def _is_text(lines: list[bytes]) -> bool:
    """No control characters, and no CR or LF by itself, which would end a line for others."""
    return b"".join(lines).translate(_NUL_FOR_CONTROLS).find(b"\0") < 0


# What comes first is the same for most requests, whatever the rest.
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


def head_fault(start: bytes, begin: int = 0) -> FramingError | None:
    """What is already wrong with an unfinished head, so that nobody waits for the rest of it.

    It was looked at up to `begin` before.
    """
    if start and not 0x41 <= start[0] <= 0x5A:
        return FramingError(400, "a request starts with a method in capital letters")
    if _LONE_LINE_END.search(start, begin):
        return FramingError(400, "lines end with CR LF")
    return None


def _length(value: bytes) -> int:
    digits = value.strip()
    length = 0
    for digit in digits:
        if not 0x30 <= digit <= 0x39:
            length = -1
            break
        length = 10 * length + digit - 0x30
    if not digits or length < 0 or len(digits) > _LENGTH_DIGITS:
        raise FramingError(400, "Content-Length is one plain number")
    return length


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
