"""The fleet API, handed on to the console, so that one URL does for both."""

import asyncio
import logging
from typing import Final

import httpx2

from ollama_fleet.router.errors import Api, Refusal, envelope
from ollama_fleet.router.fields import Field
from ollama_fleet.router.framing import Request
from ollama_fleet.router.front import JSON, Front
from ollama_fleet.router.status import status_line

log = logging.getLogger(__name__)

SECONDS: Final = 30.0
"""For the console's whole answer."""
LARGEST: Final = 32 << 20
"""Bytes of an answer."""
AT_ONCE: Final = 64
"""Calls under way."""

_TAKEN: Final = (
    b"accept",
    b"authorization",
    b"content-type",
    b"host",
    b"origin",
    b"sec-fetch-site",
    b"user-agent",
)
"""What of a request is the console's business; whose page it comes from is for it to judge."""
_GIVEN: Final = (
    "allow",
    "cache-control",
    "content-security-policy",
    "cross-origin-resource-policy",
    "referrer-policy",
    "retry-after",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
)


class FleetApi:
    """Asks the console, and answers with what it says."""

    def __init__(self, console: str, loop: asyncio.AbstractEventLoop) -> None:
        self._console = console.rstrip("/")
        self._loop = loop
        self._http = httpx2.AsyncClient(timeout=SECONDS, trust_env=False)
        self._calls: set[asyncio.Task[None]] = set()

    def hand_on(self, front: Front, request: Request) -> None:
        """Answer later; raises `Refusal` (503) where too many wait already."""
        if len(self._calls) >= AT_ONCE:
            told = "too many calls of the fleet API are under way; try again in a second"
            raise Refusal(503, told, reason="Busy", retry_after=1)
        front.deadline = self._loop.time() + 2 * SECONDS
        call = self._loop.create_task(self._answer(front, request))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """End all calls."""
        for call in self._calls:
            call.cancel()
        await self._http.aclose()

    async def _answer(self, front: Front, request: Request) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                status, body, kind, fields = await self._ask(request)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            log.warning("the console does not answer: %s", str(error) or type(error).__name__)
            told = "the console does not answer; try again in a few seconds"
            status, kind, fields = 503, JSON, ((b"retry-after", b"5"),)
            body = envelope(Api.OLLAMA, status, told)
        if front.request is not request:
            return
        if status == 204:
            front.write(b"\r\n".join([status_line(204), *map(b": ".join, fields), b"", b""]))
            front.finish(front.keeps_alive)
        else:
            front.answer(status, body, kind, fields)

    async def _ask(self, request: Request) -> tuple[int, bytes, bytes, tuple[Field, ...]]:
        headers = [(name, value) for name, value in request.fields if name in _TAKEN]
        url = self._console + request.target.decode("ascii")
        method = request.method.decode("ascii")
        body = bytearray()
        async with self._http.stream(
            method, url, content=request.body, headers=headers
        ) as response:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > LARGEST:
                    raise OSError(f"its answer is over {LARGEST >> 20} MiB")
        kind = response.headers.get("content-type", "application/json").encode("latin-1")
        fields = tuple(
            (name.encode(), response.headers[name].encode("latin-1"))
            for name in _GIVEN
            if name in response.headers
        )
        return response.status_code, bytes(body), kind, fields
