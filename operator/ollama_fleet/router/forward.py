"""Message heads as they leave the router: written anew, never passed through."""

from collections.abc import Sequence

from ollama_fleet.router.framing import EXPLAIN, HOP_BY_HOP, Field, Request, Response
from ollama_fleet.router.snapshot import Endpoint
from ollama_fleet.router.status import status_line

Opening = tuple[bytes, bytes, frozenset[bytes]]
"""What stands before and after the path in a request's head, and a client's fields to leave out."""

_PRIVATE = b"x-ollama-fleet-"
_NOT_TO_SERVERS = HOP_BY_HOP | {
    b"authorization",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"http2-settings",
    b"x-api-key",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    EXPLAIN,
}
_NOT_TO_CLIENTS = HOP_BY_HOP | {b"server", b"set-cookie", b"via"}


def request_head(request: Request, path: bytes, opening: Opening) -> bytes:
    """The head a server is sent: the path decided on, and its own `opening`.

    A client's credentials, what the client says of proxies before us, and fields that the server
    has values of its own for, stay here.
    """
    nominated = request.nominated
    before, after, withheld = opening
    parts = [before, path, after]
    for name, value in request.fields:
        if name not in withheld and name not in nominated:
            parts += (name, b": ", value, b"\r\n")
    parts.append(b"content-length: %d\r\n\r\n" % len(request.body))
    return b"".join(parts)


def response_head(
    response: Response, extra: Sequence[Field], *, chunked: bool, keep_alive: bool
) -> bytes:
    """The head a client is sent. `chunked`: whether the client's HTTP knows chunks."""
    nominated = response.nominated
    parts = [status_line(response.status)]
    for name, value in response.fields:
        if name not in _NOT_TO_CLIENTS and name not in nominated and not name.startswith(_PRIVATE):
            parts += (name, b": ", value, b"\r\n")
    for name, value in extra:
        parts += (name, b": ", value, b"\r\n")
    if response.length is not None:
        parts.append(b"content-length: %d\r\n" % response.length)
    elif response.chunked and chunked:
        parts.append(b"transfer-encoding: chunked\r\n")
    parts.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    return b"".join(parts)


def opening_for(endpoint: Endpoint) -> Opening:
    """How every request head sent to a server begins."""
    own = b"".join(name + b": " + value + b"\r\n" for name, value in endpoint.headers)
    after = b" HTTP/1.1\r\nhost: " + endpoint.authority.encode() + b"\r\n" + own
    withheld = _NOT_TO_SERVERS.union(name for name, _ in endpoint.headers)
    return b"POST " + endpoint.prefix.encode(), after, withheld
