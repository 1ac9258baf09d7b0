"""Connections to Ollama servers.

By aiohttp, as a call costs 0.1 ms of CPU there and 0.8 ms with httpx2: a thousand servers are asked
for three things each every few seconds.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable

import aiohttp

from ollama_fleet.ollama.answers import PLAIN

_KEEP_SECONDS = 60.0
"""Longer than between two probes."""


def session(
    headers: Iterable[tuple[str, str]], trust: ssl.SSLContext | None, connections: int
) -> aiohttp.ClientSession:
    """So many connections at most, each kept for a minute; every request has the headers.

    `trust`: TLS for https; None: of no server. No proxies, no cookies, and answers as they are.
    """
    return aiohttp.ClientSession(
        headers=[*PLAIN.items(), *headers],
        connector=aiohttp.TCPConnector(
            ssl=False if trust is None else trust,
            limit=connections,
            keepalive_timeout=_KEEP_SECONDS,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def reason_of(error: BaseException) -> str:
    """In a few words, what kept a call from being answered."""
    if isinstance(error, aiohttp.InvalidURL):
        return "that is no URL"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, ssl.SSLError) or not cause.errno:
            return str(cause)
        return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
    return str(error) or type(error).__name__
