"""What a message's fields mean to the router, and which of them are passed on."""

from typing import Final

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

PRIVATE: Final = b"x-ollama-fleet-"
ACCEPTS_ENCODINGS: Final = b"accept-encoding"
_NOT_TO_SERVERS: Final = (
    # compressed, an answer would not tell how many tokens it took
    ACCEPTS_ENCODINGS,
    b"authorization",
    b"cookie",
    b"forwarded",
    b"http2-settings",
    b"x-api-key",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
    b"x-forwarded-user",
    b"x-real-ip",
    b"x-remote-user",
    # to some proxies these are another method or path
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
    b"x-original-url",
    b"x-rewrite-url",
)
# the last three are about the origin, which is the router
_NOT_TO_CLIENTS: Final = (
    b"server",
    b"set-cookie",
    b"via",
    b"alt-svc",
    b"clear-site-data",
    b"strict-transport-security",
)
_COMMON: Final = (
    b"accept",
    b"accept-language",
    b"content-type",
    b"origin",
    b"user-agent",
    b"vary",
    b"x-stainless-arch",
    b"x-stainless-async",
    b"x-stainless-lang",
    b"x-stainless-os",
    b"x-stainless-package-version",
    b"x-stainless-read-timeout",
    b"x-stainless-retry-count",
    b"x-stainless-runtime",
    b"x-stainless-runtime-version",
)
_VARYING: Final = (b"date", b"referer", b"traceparent", b"tracestate", b"x-request-id")
# What a field is for. Those that are not listed are passed on, unless they are private.
OTHER: Final = 0
PASSED: Final = 1
PASSED_ONCE: Final = 11  # each has a value of its own: not worth remembering
KEPT: Final = 2
HOST: Final = 3
LENGTH: Final = 4
CODING: Final = 5
CONNECTION: Final = 6
EXPECT: Final = 7
UPGRADE: Final = 8
EXPLAINS: Final = 9
TYPE: Final = 10
ENCODING: Final = 13
KEPT_OFTEN: Final = 14  # worth remembering
_EITHER: Final[dict[bytes, int]] = {
    **dict.fromkeys(_COMMON, PASSED),
    **dict.fromkeys(_VARYING, PASSED_ONCE),
    **dict.fromkeys(HOP_BY_HOP, KEPT),
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
}
OF_REQUESTS: Final[dict[bytes, int]] = {
    **_EITHER,
    **dict.fromkeys(_NOT_TO_SERVERS, KEPT),
    b"host": HOST,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"content-encoding": ENCODING,
    EXPLAIN: EXPLAINS,
    ACCEPTS_ENCODINGS: KEPT_OFTEN,
}
OF_RESPONSES: Final[dict[bytes, int]] = {
    **_EITHER,
    **dict.fromkeys(_NOT_TO_CLIENTS, KEPT),
    b"content-type": TYPE,
}
STREAM_TYPE: Final = 12
STREAMS: Final = (b"application/x-ndjson", b"text/event-stream")


class Familiar:
    """Lines that were read before and mean the same each time, such as a client's `Accept`.

    Most of a head consists of them. Only fields known to recur are kept, no credential among them.
    """

    __slots__ = ("kinds",)

    def __init__(self) -> None:
        self.kinds: dict[bytes, int] = {}

    def remember(self, lines: list[bytes]) -> None:
        """Keep valid lines of fields that are `PASSED`, `KEPT_OFTEN`, a `HOST` or a `TYPE`."""
        for line in lines:
            name, _, value = line.partition(b":")
            kind = PASSED
            if name.lower() == b"host":
                kind = HOST
            elif name.lower() == ACCEPTS_ENCODINGS:
                kind = KEPT_OFTEN
            elif name.lower() == b"content-type" and value.lstrip().startswith(STREAMS):
                kind = STREAM_TYPE
            if len(line) <= _FAMILIAR_BYTES:
                if len(self.kinds) >= _FAMILIAR_LINES:
                    self.kinds.clear()
                self.kinds[line] = kind


_FAMILIAR_LINES: Final = 1024
_FAMILIAR_BYTES: Final = 160
FROM_CLIENTS: Final = Familiar()
FROM_SERVERS: Final = Familiar()
