"""The registries behind the mirror: their tokens, their redirects, and their wish to be left
alone."""

import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import httpx2

from ollama_fleet import __version__
from ollama_fleet.api.names import ModelName
from ollama_fleet.mirror.credentials import TOKEN, Credentials
from ollama_fleet.mirror.errors import (
    BadAnswerError,
    BeyondEndError,
    BlobUnknownError,
    BusyError,
    DeniedError,
    ManifestUnknownError,
    MirrorError,
    UnavailableError,
)
from ollama_fleet.ollama.answers import PLAIN, TooMuch, followed, value_of, whole
from ollama_fleet.ollama.registry import MANIFEST_TYPE, retry_after_seconds

log = logging.getLogger(__name__)

CHUNK = 256 * 1024
"""Bytes of a download that are handled at once."""
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_LARGEST_MANIFEST = 1 << 20
_LARGEST_TOKEN = 256 << 10
_TOKEN_SECONDS = 60.0
_PAUSE, _LONGEST_PAUSE = 10.0, 600.0
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Body:
    """A blob on its way: all its bytes' number, where `chunks` begin, and these."""

    total: int
    offset: int
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    until: float


class Upstream:
    """The registries that may be asked, used as an async context manager.

    `registries`: base URLs by host. Honours HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE.
    """

    def __init__(self, registries: Mapping[str, str], credentials: Credentials) -> None:
        self._registries = registries
        self._credentials = credentials
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._paused: dict[str, float] = {}
        self._http = httpx2.AsyncClient(
            timeout=_TIMEOUT,
            headers={"User-Agent": f"ollama-fleet-mirror/{__version__}"},
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=16),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._http.aclose()

    async def manifest(self, name: ModelName) -> bytes:
        """A model's manifest as the registry has it; raises MirrorError."""
        headers = {"Accept": MANIFEST_TYPE, **PLAIN}
        async with self._request("GET", name, name.manifest_path, headers) as response:
            if response.status_code == httpx2.codes.NOT_FOUND:
                raise ManifestUnknownError(f"{name.host} has no {name.canonical}")
            _demand(response, name, httpx2.codes.OK)
            try:
                return await whole(response, _LARGEST_MANIFEST)
            except TooMuch as error:
                raise BadAnswerError(
                    f"{name.host}: {name.canonical} has no model manifest: {error}"
                ) from error

    async def size(self, name: ModelName, digest: str) -> int:
        """A blob's bytes; raises MirrorError."""
        async with self._request("HEAD", name, name.blob_path(digest), {}) as response:
            _demand_blob(response, name, digest, httpx2.codes.OK)
            return _length(response, name)

    @asynccontextmanager
    async def blob(
        self, name: ModelName, digest: str, offset: int, end: int | None = None
    ) -> AsyncIterator[Body]:
        """A blob from `offset` on (up to `end`, exclusive), or from its beginning if the registry
        knows no ranges; raises MirrorError, also while it is read."""
        headers = {"Accept-Encoding": "identity"}
        if offset or end is not None:
            headers["Range"] = f"bytes={offset}-{'' if end is None else end - 1}"
        async with self._request("GET", name, name.blob_path(digest), headers) as response:
            if response.status_code == httpx2.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise BeyondEndError(f"{name.host} has no byte {offset} of {digest}")
            ok, partial = httpx2.codes.OK, httpx2.codes.PARTIAL_CONTENT
            _demand_blob(response, name, digest, ok, partial)
            chunks = response.aiter_raw(CHUNK)
            if response.status_code == ok:
                yield Body(_length(response, name), 0, chunks)
                return
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if not found or int(found[1]) != offset:
                raise BadAnswerError(f"{name.host} answered with another range than was asked for")
            yield Body(int(found[2]), offset, chunks)

    @asynccontextmanager
    async def _request(
        self, method: str, name: ModelName, path: str, headers: dict[str, str]
    ) -> AsyncIterator[httpx2.Response]:
        base = self._base(name)
        self._heed_pause(name.host)
        scope = f"repository:{repository(name)}:pull"
        try:
            response = await self._send(method, base + path, headers, name.host, scope)
            if response.status_code == httpx2.codes.UNAUTHORIZED:
                await response.aclose()
                await self._authenticate(response, name, scope)
                response = await self._send(method, base + path, headers, name.host, scope)
            try:
                self._learn_pause(response, name.host)
                yield response
            finally:
                await response.aclose()
        except httpx2.TimeoutException as error:
            raise UnavailableError(f"{name.host} did not answer in time") from error
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"{name.host} cannot be reached: {reason}") from error

    def _base(self, name: ModelName) -> str:
        base = self._registries.get(name.host.lower())
        if base is None:
            raise DeniedError(
                f"this mirror does not serve {name.host}: add it to the mirror's registries, or "
                "set spec.source.mirror to false"
            )
        return base

    async def _send(
        self, method: str, url: str, headers: dict[str, str], host: str, scope: str
    ) -> httpx2.Response:
        token = self._tokens.get((host, scope))
        if token and token.until > time.monotonic():
            headers = {**headers, "Authorization": token.value}
        elif (credential := self._credentials.of(host)) and credential.token:
            headers = {**headers, "Authorization": f"Bearer {credential.token}"}
        return await followed(self._http, self._http.build_request(method, url, headers=headers))

    async def _authenticate(self, refusal: httpx2.Response, name: ModelName, scope: str) -> None:
        """Have a token for the next request, as the refusal says it is got."""
        challenge = refusal.headers.get("www-authenticate", "")
        kind, _, rest = challenge.partition(" ")
        wanted = dict(_PARAMETER.findall(rest))
        credential = self._credentials.of(name.host)
        basic = credential.basic if credential else None
        if kind.lower() == "basic" and basic:
            self._tokens[name.host, scope] = _Token(basic, time.monotonic() + _TOKEN_SECONDS)
            return
        realm = wanted.pop("realm", "")
        if kind.lower() != "bearer" or not realm:
            raise self._denied(name)
        try:
            scheme = httpx2.URL(realm).scheme
        except httpx2.InvalidURL as error:
            raise BadAnswerError(f"{name.host} sends for tokens to {realm!r}: {error}") from error
        secure = self._registries[name.host.lower()].startswith("https:")
        if secure and scheme != "https":
            raise DeniedError(f"{name.host} wants credentials to be sent in the clear to {realm}")
        asked = self._http.build_request(
            "GET",
            realm,
            params={**wanted, "scope": wanted.get("scope") or scope},
            headers={**PLAIN, **({"Authorization": basic} if basic else {})},
        )
        answer = await self._http.send(asked, stream=True)
        try:
            self._learn_pause(answer, name.host)
            if answer.status_code != httpx2.codes.OK:
                raise self._denied(name)
            given = value_of(await whole(answer, _LARGEST_TOKEN))
            token = given.get("token") or given["access_token"]
            seconds = float(given.get("expires_in") or _TOKEN_SECONDS)
            if TOKEN.fullmatch(token) is None:
                raise ValueError("it is no token")
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            TooMuch,
        ) as error:
            raise BadAnswerError(f"{realm} gave no token for {name.host}") from error
        finally:
            await answer.aclose()
        # a token that is about to end would fail on its way
        until = time.monotonic() + max(1.0, 0.9 * seconds)
        now = time.monotonic()
        self._tokens = {key: one for key, one in self._tokens.items() if one.until > now}
        self._tokens[name.host, scope] = _Token(f"Bearer {token}", until)

    def _denied(self, name: ModelName) -> DeniedError:
        if self._credentials.of(name.host):
            return DeniedError(
                f"{name.host} refuses the mirror's credentials for {repository(name)}: correct them"
            )
        return DeniedError(
            f"{name.host} wants credentials for {repository(name)}: give the mirror some for "
            f"{name.host}"
        )

    def _heed_pause(self, host: str) -> None:
        left = self._paused.get(host, 0.0) - time.monotonic()
        if left > 0:
            raise BusyError(f"{host} asked for {left:.0f} s without requests", left)

    def _learn_pause(self, response: httpx2.Response, host: str) -> None:
        """Obey a 429, and a 503 that says for how long."""
        asked = response.headers.get("retry-after")
        busy = response.status_code == httpx2.codes.TOO_MANY_REQUESTS
        if not busy and not (asked and response.status_code == httpx2.codes.SERVICE_UNAVAILABLE):
            return
        told = retry_after_seconds(asked, response.headers.get("date"))
        seconds = min(_PAUSE if told is None else told, _LONGEST_PAUSE)
        self._paused[host] = time.monotonic() + seconds
        log.warning("%s asks for %.0f s without requests", host, seconds)
        raise BusyError(f"{host} asked for {seconds:.0f} s without requests", seconds)


def repository(name: ModelName) -> str:
    """What a registry calls a model without its tag; a blob is asked for without one."""
    return f"{name.namespace}/{name.model}"


def _demand_blob(response: httpx2.Response, name: ModelName, digest: str, *wanted: int) -> None:
    if response.status_code == httpx2.codes.NOT_FOUND:
        raise BlobUnknownError(f"{name.host} has no {digest} of {repository(name)}")
    _demand(response, name, *wanted)


def _demand(response: httpx2.Response, name: ModelName, *wanted: int) -> None:
    status = response.status_code
    if status in wanted:
        return
    kind: type[MirrorError] = BadAnswerError
    if status in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        kind = DeniedError
    elif status >= httpx2.codes.INTERNAL_SERVER_ERROR:
        kind = UnavailableError
    raise kind(f"{response.url.host} answered {status} for {repository(name)}")


def _length(response: httpx2.Response, name: ModelName) -> int:
    told = response.headers.get("content-length", "")
    if _LENGTH.fullmatch(told) is None:
        raise BadAnswerError(f"{name.host} does not say how large a blob is")
    return int(told)
