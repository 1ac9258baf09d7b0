"""Reading what somebody else's server answers, of which nothing is known: with an end to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import httpx2

if TYPE_CHECKING:
    import aiohttp

Answer: TypeAlias = "httpx2.Response | aiohttp.ClientResponse"

PLAIN: Final = {"Accept-Encoding": "identity"}
"""Asks for answers as they are: a few bytes of a compressed one may stand for gigabytes."""


_MOST_REDIRECTS: Final = 10


class TooMuch(Exception):  # noqa: N818
    """An answer that goes on for longer than any good one, or is compressed unasked; the text says
    which."""


async def followed(
    http: httpx2.AsyncClient, request: httpx2.Request, *, secure: bool = False
) -> httpx2.Response:
    """Send a request, go where its answer points to, and open what is found there; raises
    httpx2.RequestError.

    Where it is to stay `secure`, it goes from HTTPS to HTTPS alone: a service of the cluster
    answers whoever asks from within. Of blobs nothing is told, and their digests are known.
    """
    for _ in range(_MOST_REDIRECTS):
        response = await http.send(request, stream=True, follow_redirects=False)
        if response.next_request is None:
            return response
        # what a redirect says besides is not read
        await response.aclose()
        before, request = request.url.scheme, response.next_request
        if secure and before == "https" != request.url.scheme:
            raise httpx2.UnsupportedProtocol(f"it points to {request.url.host} without TLS")
    raise httpx2.TooManyRedirects("it points from one place to the next")


async def whole(response: Answer, most: int) -> bytes:
    """The body of an opened answer, of `most` bytes; raises TooMuch."""
    found = bytearray()
    async for piece in _pieces(response):
        found += piece
        if len(found) > most:
            raise TooMuch(f"its answer is longer than {most >> 10} KiB")
    return bytes(found)


async def lines(response: Answer, longest: int) -> AsyncIterator[bytes]:
    """The lines of an opened answer, each of `longest` bytes, without the empty ones; raises
    TooMuch."""
    kept = bytearray()
    async for piece in _pieces(response):
        first, *others = piece.split(b"\n")
        kept += first
        for other in others:
            if kept.strip():
                yield bytes(kept)
            kept = bytearray(other)
        if len(kept) > longest:
            raise TooMuch(f"a line of its answer is longer than {longest >> 10} KiB")
    if kept.strip():
        yield bytes(kept)


def value_of(text: bytes | str) -> Any:
    """What a JSON text says; raises ValueError, also for what only Python takes for JSON, for half
    a character, which could not be passed on, and where it is nested too deeply."""
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        value = json.loads(text, parse_constant=_no_constant)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


async def _pieces(response: Answer) -> AsyncIterator[bytes]:
    coding = response.headers.get("content-encoding", "identity").lower()
    if coding not in ("", "identity"):
        raise TooMuch(f"its answer is compressed ({coding[:20]!r}), which it was not asked for")
    if isinstance(response, httpx2.Response):
        async for piece in response.aiter_raw():
            yield piece
    else:
        async for piece in response.content.iter_any():
            yield piece
