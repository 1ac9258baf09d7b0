"""Message heads as they leave the router: written anew, never passed through."""

from collections.abc import Sequence

from ollama_fleet.router.fields import Field
from ollama_fleet.router.framing import Request, Response, field_of
from ollama_fleet.router.snapshot import Endpoint
from ollama_fleet.router.status import status_line


class Opening:
    """How request heads for one server begin, and which fields are its own, not a client's."""

    __slots__ = ("_after", "_before", "_starts", "names")

    def __init__(self, endpoint: Endpoint) -> None:
        self._before = b"POST " + endpoint.prefix.encode()
        own = [b"host: " + endpoint.authority.encode()]
        own += [name + b": " + value for name, value in endpoint.headers]
        self._after = b" HTTP/1.1\r\n" + b"\r\n".join(own)
        self._starts: dict[bytes, bytes] = {}
        self.names = frozenset([name for name, _ in endpoint.headers])

    def start(self, path: bytes) -> bytes:
        """The request line and the server's own fields; `path` is one of the few we forward."""
        start = self._starts.get(path)
        if start is None:
            start = self._starts[path] = self._before + path + self._after
        return start


def request_head(request: Request, path: bytes, opening: Opening, body: bytes = b"") -> bytes:
    """The head a server is sent, followed by `body`: the path decided on, and its own `opening`.

    A client's credentials, what the client says of proxies before us, and fields that the server
    has values of its own for, stay here.
    """
    parts = [opening.start(path)]
    parts += _without(request.passed, request.nominated, opening.names)
    parts.append(b"content-length: %d" % len(request.body))
    parts.append(b"")
    parts.append(body)
    return b"\r\n".join(parts)


def response_head(
    response: Response,
    extra: Sequence[Field],
    *,
    chunked: bool,
    keep_alive: bool,
    body: bytes = b"",
) -> bytes:
    """The head a client is sent, followed by `body`. `chunked`: the client's HTTP knows chunks."""
    parts = [status_line(response.status)]
    parts += _without(response.passed, response.nominated)
    for name, value in extra:
        parts.append(name + b": " + value)
    if response.length is not None:
        parts.append(b"content-length: %d" % response.length)
    elif response.chunked and chunked:
        parts.append(b"transfer-encoding: chunked")
    if not keep_alive:
        parts.append(b"connection: close")
    parts.append(b"")
    parts.append(body)
    return b"\r\n".join(parts)


def _without(
    lines: list[bytes], nominated: frozenset[bytes], own: frozenset[bytes] = frozenset()
) -> list[bytes]:
    if not nominated and not own:
        return lines
    kept = []
    for line in lines:
        name, _ = field_of(line)
        if name not in nominated and name not in own:
            kept.append(line)
    return kept
