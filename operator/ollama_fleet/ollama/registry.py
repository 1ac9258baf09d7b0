"""A read-only client for model registries."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx2

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.names import DEFAULT_HOST, ModelName
from ollama_fleet.ollama.answers import PLAIN, TooMuch, followed, value_of, whole
from ollama_fleet.ollama.errors import (
    ModelNotFound,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unreachable,
)
from ollama_fleet.ollama.gguf import GgufError, Header, Value

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MODEL_LAYER = "application/vnd.ollama.image.model"
PROJECTOR_LAYER = "application/vnd.ollama.image.projector"
ADAPTER_LAYER = "application/vnd.ollama.image.adapter"
_LARGEST_MANIFEST = 1 << 20
_LARGEST_BLOB = 1 << 50
_MOST_LAYERS = 1000
_LONGEST_WAIT = 86400.0
_FIRST_PIECE, _LARGEST_PIECE = 64 << 10, 4 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model; `size` in bytes, `digest` like `sha256:<hex>`."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model is made of. `digest` is the sha256 of the manifest's bytes in bare hex: the
    same that /api/tags reports once the model is installed."""

    digest: str
    config: Layer
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Bytes to download in all, as /api/tags counts them."""
        return self.config.size + sum(layer.size for layer in self.layers)

    @property
    def loaded(self) -> tuple[int, int]:
        """Bytes of what is loaded: the model's own weights, and its projector's."""
        projector = sum(layer.size for layer in self.of_type(PROJECTOR_LAYER))
        parts = (*self.of_type(MODEL_LAYER), *self.of_type(ADAPTER_LAYER))
        # without a layer of this type its format is another one, and all of it may be weights
        return sum(layer.size for layer in parts) or self.size, projector

    def of_type(self, media_type: str) -> tuple[Layer, ...]:
        """The layers of a kind, such as MODEL_LAYER."""
        return tuple(layer for layer in self.layers if layer.media_type == media_type)


class RegistryClient:
    """Registries, used as an async context manager. Honours HTTPS_PROXY and SSL_CERT_FILE.

    `base` answers for names without a host of their own; names with one are asked there, over
    plain HTTP if `insecure`. Those that a mirror serves are asked of it instead.
    """

    def __init__(
        self,
        base: str = f"https://{DEFAULT_HOST}",
        insecure: bool = False,
        timeout: float = 10.0,
        mirror: Mirror | None = None,
    ) -> None:
        self._base = base.rstrip("/")
        self._host = self._base.partition("://")[2]
        self._scheme = "http" if insecure else "https"
        self._mirror = mirror
        self._http = httpx2.AsyncClient(timeout=timeout, trust_env=True, headers=PLAIN)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def manifest(self, name: ModelName | str) -> Manifest:
        """Fetch a model's manifest; raises ModelNotFound, Unreachable, Unauthorized, RateLimited
        and, for other answers, RegistryError."""
        name = ModelName.parse(name) if isinstance(name, str) else name
        base, asked = self._where(name)
        with _translated(base):
            wanted = {"Accept": MANIFEST_TYPE}
            async with self._open(base + asked.manifest_path, wanted, secure=True) as response:
                content = await whole(response, _LARGEST_MANIFEST)
        if response.status_code == httpx2.codes.NOT_FOUND:
            raise ModelNotFound(name.canonical, f"{base} has no {name.canonical}")
        if response.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
            # a mirror says itself what it lacks
            raise Unauthorized(
                (asked is not name and _said(base, response, content))
                or f"{base} does not give {name.canonical} without credentials "
                f"({response.status_code})"
            )
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            wait = retry_after_seconds(
                response.headers.get("Retry-After"), response.headers.get("Date")
            )
            raise RateLimited(f"{base} has had too many requests (429)", wait)
        if response.status_code != httpx2.codes.OK:
            said = _said(base, response, content)
            raise RegistryError(
                f"{base} answered {response.status_code} for {name.canonical}: {said}"
            )
        return parse_manifest(content)

    async def blob(self, name: ModelName | str, digest: str, begin: int, length: int) -> bytes:
        """Bytes of a blob, `length` from `begin` on, fewer only at its end; no more are taken,
        whatever is sent. Raises Unreachable, RegistryError."""
        name = ModelName.parse(name) if isinstance(name, str) else name
        base, asked = self._where(name)
        wanted = {"Range": f"bytes={begin}-{begin + length - 1}"}
        found = bytearray()
        url = base + asked.blob_path(digest)
        with _translated(base):
            async with self._open(url, wanted) as response:
                if not _from(response, begin):
                    raise RegistryError(
                        f"{base} answered {response.status_code} for bytes of {name.canonical}"
                    )
                async for piece in response.aiter_raw():
                    found += piece[: length - len(found)]
                    if len(found) >= length:
                        break
        return bytes(found)

    async def header(self, name: ModelName | str, layer: Layer) -> dict[str, Value]:
        """What a model layer's GGUF header says, from as few bytes as that takes. Raises
        GgufError where it has none that can be read, and Unreachable, RegistryError."""
        header, length = Header(), _FIRST_PIECE
        while not header.done:
            begin = header.position
            wanted = min(length, layer.size - begin)
            piece = await self.blob(name, layer.digest, begin, wanted) if wanted > 0 else b""
            if not piece:
                raise GgufError("it ends within its header")
            # a thread, as a hostile one may keep it busy for a second
            await asyncio.to_thread(header.feed, piece)
            length = min(2 * length, _LARGEST_PIECE)
        return header.values

    @asynccontextmanager
    async def _open(
        self, url: str, headers: dict[str, str], *, secure: bool = False
    ) -> AsyncIterator[httpx2.Response]:
        request = self._http.build_request("GET", url, headers=headers)
        response = await followed(self._http, request, secure=secure)
        try:
            yield response
        finally:
            await response.aclose()

    def _where(self, name: ModelName) -> tuple[str, ModelName]:
        """Where a model is asked for, and by which name."""
        own = name.host == DEFAULT_HOST
        if self._mirror:
            asked = self._mirror.name(name.with_registry(self._host) if own else name)
            if asked:
                return f"http://{self._mirror.address}", asked
        return (self._base if own else f"{self._scheme}://{name.host}"), name


def _said(base: str, response: httpx2.Response, content: bytes) -> str:
    """A registry's own words about an error; those of whoever it points to are not its own."""
    if response.url.host != httpx2.URL(base).host:
        return f"asked at {response.url.host}, where it points to"
    try:
        return str(value_of(content)["errors"][0]["message"])[:500]
    except (ValueError, KeyError, TypeError, IndexError):
        return content.decode(errors="replace")[:200].strip()


@contextmanager
def _translated(base: str) -> Iterator[None]:
    try:
        yield
    except httpx2.TimeoutException as error:
        raise Unreachable(f"{base} did not answer in time") from error
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(f"{base} cannot be reached: {reason}") from error
    except TooMuch as error:
        raise RegistryError(f"{base}: {error}") from error


def _from(response: httpx2.Response, begin: int) -> bool:
    """Whether an answer's bytes are those from `begin` on; who knows no ranges sends all."""
    if response.status_code == httpx2.codes.PARTIAL_CONTENT:
        told: str = response.headers.get("Content-Range", "")
        return told.startswith(f"bytes {begin}-")
    return response.status_code == httpx2.codes.OK and begin == 0


def parse_manifest(content: bytes) -> Manifest:
    """Read a manifest's bytes; raises RegistryError."""
    if len(content) > _LARGEST_MANIFEST:
        raise RegistryError(f"a manifest of {len(content)} bytes is no manifest")
    try:
        data = value_of(content)
        if len(data["layers"]) > _MOST_LAYERS:
            raise ValueError("layers")
        return Manifest(
            digest=hashlib.sha256(content).hexdigest(),
            config=_layer(data["config"]),
            layers=tuple(_layer(item) for item in data["layers"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError("the registry's answer is no model manifest") from error


def retry_after_seconds(retry_after: str | None, date: str | None) -> float | None:
    """A Retry-After in seconds, of a day at most, from either of its forms; a date is counted from
    the registry's own clock."""
    try:
        if not retry_after or retry_after.strip().isdecimal():
            return min(_LONGEST_WAIT, float(retry_after)) if retry_after else None
        then = parsedate_to_datetime(retry_after)
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return min(_LONGEST_WAIT, max(0.0, (then - now).total_seconds()))
    except (ValueError, TypeError, OverflowError):
        return None


def _layer(data: dict[str, Any]) -> Layer:
    if not _DIGEST.fullmatch(data["digest"]):
        raise ValueError(data["digest"])
    size = int(data["size"])
    if not 0 <= size <= _LARGEST_BLOB:
        raise ValueError("size")
    return Layer(str(data["mediaType"]), data["digest"], size)
