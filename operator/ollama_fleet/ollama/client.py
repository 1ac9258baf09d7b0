"""An HTTP client for one Ollama server. Nothing of aiohttp leaves this module."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import cache
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from pydantic import ValidationError

from ollama_fleet.api.access import Access
from ollama_fleet.api.tls import trust
from ollama_fleet.ollama.answers import TooMuch, lines, value_of, whole
from ollama_fleet.ollama.errors import (
    Busy,
    ModelNotFound,
    OllamaResponseError,
    PullFailed,
    Silent,
    Unreachable,
)
from ollama_fleet.ollama.session import reason_of, session
from ollama_fleet.ollama.wire import (
    InstalledModel,
    ModelDetail,
    PullProgress,
    ResidentModel,
    Wire,
)

T = TypeVar("T", bound=Wire)

_CONNECTIONS = 100
_LOAD_TIMEOUT = 600.0
_PULL_IDLE_TIMEOUT = 600.0
_LARGEST = 64 << 20
"""Bytes of an answer. A model in full has a list of all its tensors, which takes some MiB."""
_LONGEST_LINE = 4 << 20
_LONGEST_REFUSAL = 64 << 10


class OllamaClient:
    """One Ollama server at `base_url`, used as an async context manager.

    It is reached by `access`, and no error repeats the headers in that. `timeout` (seconds) bounds
    connecting and each wait for bytes; loads and pulls have their own, longer ones. Environment
    proxies are ignored: servers are inside the cluster.
    Every method raises Unreachable, Busy, ModelNotFound or OllamaResponseError.
    """

    def __init__(
        self,
        base_url: str,
        access: Access | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._access = access or Access()
        self._timeout = timeout
        tls = None
        if self._access.ca is not None:
            tls = trust(self._access.ca)
        elif self.base_url.startswith("https:"):
            tls = _roots()
        self._http = session(self._access.headers, tls, _CONNECTIONS)

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
        await self._http.close()

    async def version(self) -> str:
        """The server's version, like `0.17.4`."""
        return str((await self._call("GET", "/api/version")).get("version", ""))

    async def tags(self) -> list[InstalledModel]:
        """The models on the server's disk."""
        return self._models(InstalledModel, await self._call("GET", "/api/tags"))

    async def ps(self) -> list[ResidentModel]:
        """The models in the server's memory."""
        return self._models(ResidentModel, await self._call("GET", "/api/ps"))

    async def show(self, model: str) -> ModelDetail:
        """One installed model in full."""
        answer = await self._call("POST", "/api/show", {"model": model}, model=model)
        return self._parse(ModelDetail, answer)

    async def delete(self, model: str) -> None:
        """Remove a model from the server's disk."""
        await self._call("DELETE", "/api/delete", {"model": model}, model=model)

    async def copy(self, source: str, destination: str) -> None:
        """Give an installed model a second name."""
        body = {"source": source, "destination": destination}
        await self._call("POST", "/api/copy", body, model=source)

    async def load(
        self, model: str, keep_alive: float | str | None = -1, timeout: float = _LOAD_TIMEOUT
    ) -> None:
        """Bring a model into memory and keep it for `keep_alive` (seconds, or like `5m`; below
        zero: for good; None: as the server is set). Returns when it is there."""
        kept = {} if keep_alive is None else {"keep_alive": keep_alive}
        body = {"model": model, "stream": False, **kept}
        try:
            await self._call("POST", "/api/generate", body, model=model, timeout=timeout)
        except OllamaResponseError as error:
            if "does not support generate" not in error.message:
                raise
            # An embedding model: the same by way of /api/embed.
            body = {"model": model, **kept}
            await self._call("POST", "/api/embed", body, model=model, timeout=timeout)

    async def unload(self, model: str) -> None:
        """Take a model out of memory, once its running requests have ended."""
        body = {"model": model, "keep_alive": 0, "stream": False}
        await self._call("POST", "/api/generate", body, model=model)

    async def chat(self, model: str, messages: list[dict[str, str]]) -> AsyncGenerator[str, None]:
        """Ask a model, giving its answer piece by piece; ``messages`` as /api/chat takes them."""
        body = {"model": model, "messages": messages, "stream": True}
        async with self._open("/api/chat", body, _LOAD_TIMEOUT, model) as told:
            async for line in told:
                if "error" in line:
                    raise OllamaResponseError(200, self._access.hide(str(line["error"])))
                message = line.get("message")
                piece = message.get("content") if isinstance(message, dict) else None
                if piece:
                    yield str(piece)
                if line.get("done"):
                    return
        raise OllamaResponseError(200, "the answer broke off: ask again")

    async def pull(
        self, model: str, insecure: bool = False, idle_timeout: float = _PULL_IDLE_TIMEOUT
    ) -> AsyncGenerator[PullProgress, None]:
        """Download a model, giving each progress line; it ends only after `success`.

        `insecure` means plain HTTP to the registry. Closing the generator early (as
        contextlib.aclosing does) cancels the download; the next pull resumes it. Raises
        PullFailed and ModelNotFound besides.
        """
        body = {"model": model, "insecure": insecure, "stream": True}
        status = ""
        async with self._open("/api/pull", body, idle_timeout, model) as news:
            async for line in news:
                if "error" in line:
                    raise _pull_error(model, self._access.hide(str(line["error"])))
                progress = self._parse(PullProgress, line)
                status = progress.status
                yield progress
        if status != "success":
            told = self._access.hide(repr(status))
            raise PullFailed(model, f"the answer ended after {told}, without success")

    async def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        model: str = "",
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """One request and its JSON object; an empty answer is an empty object."""
        with self._translated():
            async with self._request(method, path, body, timeout) as response:
                good = response.status == HTTPStatus.OK
                content = await whole(response, _LARGEST if good else _LONGEST_REFUSAL)
        if not good:
            raise self._refusal(response.status, content, model)
        return _object(response.status, content) if content else {}

    @asynccontextmanager
    async def _open(
        self, path: str, body: Mapping[str, Any], timeout: float, model: str
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """A streamed request; gives the objects of its lines."""
        with self._translated():
            async with self._request("POST", path, body, timeout) as response:
                if response.status != HTTPStatus.OK:
                    content = await whole(response, _LONGEST_REFUSAL)
                    raise self._refusal(response.status, content, model)
                yield _lines(response)

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: float | None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._http.request(
            method,
            self.base_url + path,
            json=body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                connect=self._timeout,
                sock_read=self._timeout if read is None else read,
            ),
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except aiohttp.SocketTimeoutError as error:
            raise Silent(f"{self.base_url} did not answer in time") from error
        except aiohttp.ServerTimeoutError as error:
            raise Unreachable(f"{self.base_url} did not answer in time") from error
        except aiohttp.ClientError as error:
            reason = self._access.hide(reason_of(error))
            raise Unreachable(f"{self.base_url} cannot be reached: {reason}") from error
        except TooMuch as error:
            raise OllamaResponseError(200, f"{error}; is this Ollama?") from error

    def _refusal(self, status: int, content: bytes, model: str) -> Exception:
        """What an answer that is no success means."""
        text = content.decode(errors="replace").strip()
        try:
            message = self._access.hide(str(value_of(text)["error"]))
        except (ValueError, KeyError, TypeError):
            # hidden before it is cut: the beginning of a key would not be found
            message = self._access.hide(text)[:200] or "no reason given"
        if status == HTTPStatus.NOT_FOUND and model and "not found" in message:
            return ModelNotFound(model, message)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return Busy(status, message)
        return OllamaResponseError(status, message)

    def _models(self, kind: type[T], answer: dict[str, Any]) -> list[T]:
        models = answer.get("models")
        return [self._parse(kind, item) for item in models] if isinstance(models, list) else []

    def _parse(self, kind: type[T], data: Any) -> T:
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            told = self._access.hide(f"{field}: {problem['msg']}")
            raise OllamaResponseError(200, f"{self.base_url} sent a strange {told}") from error


@cache
def _roots() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in lines(response, _LONGEST_LINE):
        yield _object(response.status, line)


def _object(status: int, text: bytes) -> dict[str, Any]:
    try:
        answer = value_of(text)
    except ValueError as error:
        raise OllamaResponseError(status, "the answer is no JSON; is this Ollama?") from error
    if not isinstance(answer, dict):
        raise OllamaResponseError(status, "the answer is no JSON object; is this Ollama?")
    return answer


def _pull_error(model: str, message: str) -> Exception:
    if message == "pull model manifest: file does not exist":
        return ModelNotFound(model, f"the registry has no {model}")
    return PullFailed(model, message)
