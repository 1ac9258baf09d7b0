"""The registry's face: manifests and blobs over HTTP, health and metrics."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ollama_fleet.api.mirror import asked_of_mirror
from ollama_fleet.api.names import InvalidModelName, ModelName
from ollama_fleet.mirror.blobs import Blobs, Glance, Reader
from ollama_fleet.mirror.errors import InvalidNameError, MirrorError
from ollama_fleet.mirror.manifests import Manifests
from ollama_fleet.mirror.metrics import Metrics
from ollama_fleet.mirror.ranges import UnsatisfiableError, asked_range
from ollama_fleet.mirror.store import Store, is_digest

log = logging.getLogger(__name__)

SLOW_SECONDS = 120.0
"""How long a client may take to accept one chunk."""


class App:
    """The ASGI application over one store."""

    def __init__(self, store: Store, manifests: Manifests, blobs: Blobs, metrics: Metrics) -> None:
        self._store = store
        self._manifests = manifests
        self._blobs = blobs
        self._metrics = metrics

    def routes(self) -> Starlette:
        """What uvicorn serves."""
        model = "/v2/{namespace}/{model}"
        return Starlette(
            routes=[
                Route("/v2/", self._root),
                Route(model + "/manifests/{tag}", self._told(self._manifest)),
                Route(model + "/blobs/{digest}", self._told(self._blob)),
                Route("/healthz", self._alive),
                Route("/readyz", self._ready),
                Route("/metrics", self._scrape),
            ],
            exception_handlers={HTTPException: _unsupported},
        )

    async def _root(self, _: Request) -> Response:
        return Response("{}", media_type="application/json")

    async def _alive(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, _: Request) -> Response:
        if self._store.is_writable():
            return PlainTextResponse("ok\n")
        return PlainTextResponse("the store cannot be written to\n", 503)

    async def _scrape(self, _: Request) -> Response:
        self._metrics.stored_bytes.set(self._store.used)
        self._metrics.limit_bytes.set(self._store.limit)
        return Response(self._metrics.render(), media_type=CONTENT_TYPE_LATEST)

    async def _manifest(self, request: Request) -> Response:
        found = await self._manifests.get(_name(request, request.path_params["tag"]))
        headers = {
            "Docker-Content-Digest": found.digest,
            "Content-Length": str(len(found.content)),
            "Content-Type": found.media_type,
            "Age": f"{found.age:.0f}",
        }
        return Response(found.content, headers=headers)

    async def _blob(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if not is_digest(digest):
            raise InvalidNameError(f"{digest[:80]!r} is no digest: write sha256: and 64 hex digits")
        name = _name(request, "latest")
        if request.method == "HEAD":
            return _BlobResponse(request, digest, await self._blobs.size(name, digest))
        async with AsyncExitStack() as stack:
            reader = await stack.enter_async_context(self._open(request, name, digest))
            response = _BlobResponse(request, digest, reader.size)
            response.serve(reader, stack.pop_all(), self._metrics.served_bytes.inc)
        return response

    def _open(
        self, request: Request, name: ModelName, digest: str
    ) -> AbstractAsyncContextManager[Reader | Glance]:
        size = self._manifests.size_of(digest)
        if size is not None:
            try:
                asked = _asked(request, digest, size)
            except UnsatisfiableError:
                asked = None
            if asked and self._blobs.may_glance(digest, *asked, size):
                return self._blobs.glance(name, digest, *asked)
        return self._blobs.open(name, digest)

    def _told(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The same, with errors in the form registries give them."""

        async def told(request: Request) -> Response:
            try:
                return await answer(request)
            except MirrorError as error:
                self._metrics.refusals.labels(error.code).inc()
                log.info("%s %s: %s", request.method, request.url.path, error)
                headers = {}
                if error.retry_after is not None:
                    headers["Retry-After"] = str(max(1, round(error.retry_after)))
                return _error(error.status, error.code, str(error), headers)

        return told


class _BlobResponse(Response):
    """A blob or a range of it. It ends short, and so does the connection, where the rest cannot
    be had."""

    def __init__(self, request: Request, digest: str, size: int) -> None:
        super().__init__()
        headers = {
            "accept-ranges": "bytes",
            "content-type": "application/octet-stream",
            "docker-content-digest": digest,
            "etag": f'"{digest}"',
        }
        self._begin, self._end = 0, size
        try:
            found = _asked(request, digest, size)
        except UnsatisfiableError:
            self.status_code, self._end = 416, 0
            headers["content-range"] = f"bytes */{size}"
        else:
            if found:
                self.status_code = 206
                self._begin, self._end = found
                headers["content-range"] = f"bytes {found[0]}-{found[1] - 1}/{size}"
            else:
                # Ollama asks for a blob once only to learn from where it may have its parts
                headers["location"] = request.url.path
        headers["content-length"] = str(self._end - self._begin)
        self.raw_headers = [(key.encode(), value.encode()) for key, value in headers.items()]
        self._reader: Reader | Glance | None = None

    def serve(
        self, reader: Reader | Glance, held: AsyncExitStack, sent: Callable[[int], None]
    ) -> None:
        """Send these bytes, count them, and let go of what is held."""
        self._reader, self._held, self._sent = reader, held, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; stops when the client leaves."""
        if self._reader is None:
            await send(self._start())
            await send({"type": "http.response.body", "body": b""})
            return
        async with self._held:
            sending = asyncio.create_task(self._send(self._reader, send))
            leaving = asyncio.create_task(_left(receive))
            try:
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                sending.cancel()
                leaving.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)

    def _start(self) -> dict[str, object]:
        return {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }

    async def _send(self, reader: Reader | Glance, send: Send) -> None:
        await send(self._start())
        position = self._begin
        try:
            while position < self._end:
                chunk = await reader.read(position, self._end)
                async with asyncio.timeout(SLOW_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                position += len(chunk)
                self._sent(len(chunk))
        except (MirrorError, TimeoutError, OSError) as error:
            log.warning("an answer ends early: %s", error or "the client is too slow")
            return
        await send({"type": "http.response.body", "body": b""})


async def _unsupported(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = (
        f"{request.method} {request.url.path} is nothing a mirror answers: it has "
        "/v2/<namespace>/<model>/manifests/<tag> and /blobs/<digest>, to read"
    )
    return _error(status, "UNSUPPORTED", message, {})


def _error(status: int, code: str, message: str, headers: dict[str, str]) -> Response:
    body = {"errors": [{"code": code, "message": message, "detail": {}}]}
    return Response(json.dumps(body), status, headers, media_type="application/json")


async def _left(receive: Receive) -> None:
    """Until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _asked(request: Request, digest: str, size: int) -> tuple[int, int] | None:
    """The range asked for; None for the whole. Raises UnsatisfiableError."""
    header = request.headers.get("range") if request.method == "GET" else None
    return asked_range(header, request.headers.get("if-range"), f'"{digest}"', size)


def _name(request: Request, tag: str) -> ModelName:
    path = request.path_params
    try:
        return asked_of_mirror(path["namespace"], path["model"], tag)
    except InvalidModelName as error:
        raise InvalidNameError(str(error)) from error
