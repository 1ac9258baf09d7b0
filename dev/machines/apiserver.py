"""The Kubernetes API over HTTPS: plain objects in and out, and a watch that never ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson

Object = dict[str, Any]

_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"
_WATCH_SECONDS = 600
_RETRY_SECONDS = 0.5


class ApiError(Exception):
    """An answer of 400 or above; `status` is its code, `reason` Kubernetes' word for it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Event:
    """A change of one object: `kind` is ADDED, MODIFIED or DELETED."""

    kind: str
    object: Object


class ApiServer:
    """A client that shows a certificate; all methods raise ApiError or httpx2.TransportError."""

    def __init__(self, url: str, *, authority: Path, certificate: Path, key: Path) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(certificate, key)
        self._client = httpx2.AsyncClient(
            base_url=url,
            verify=context,
            timeout=httpx2.Timeout(20, pool=60),
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=16),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def get(self, path: str) -> Object:
        """Read one object, or a list."""
        return await self._call("GET", path)

    async def create(self, path: str, body: Object) -> Object:
        """POST to a collection or subresource."""
        return await self._call("POST", path, body)

    async def merge(self, path: str, body: Object) -> Object:
        """Merge-patch: a null removes a field, a list is replaced."""
        return await self._call("PATCH", path, body, _MERGE)

    async def patch(self, path: str, body: Object) -> Object:
        """Strategic merge patch: lists with a merge key, such as conditions, are merged."""
        return await self._call("PATCH", path, body, _STRATEGIC)

    async def delete(self, path: str, options: Object | None = None) -> None:
        """Delete an object; one that is gone already is no error."""
        try:
            await self._call("DELETE", path, options)
        except ApiError as error:
            if error.status != 404:
                raise

    async def text(self, path: str) -> str:
        """Read something that is no object, such as /readyz."""
        response = await self._client.get(path)
        _check(response)
        return response.text

    async def watch(self, path: str) -> AsyncIterator[Event]:
        """All objects of a collection as ADDED, then every change, reconnecting for ever.

        After a gap it lists again and makes up the DELETED events it missed.
        """
        known: dict[str, Object] = {}
        while True:
            try:
                listed = await self.get(path)
                version = str(listed["metadata"]["resourceVersion"])
                present = {_uid(item): item for item in listed.get("items") or []}
                for uid in [uid for uid in known if uid not in present]:
                    yield Event("DELETED", known.pop(uid))
                for uid, item in present.items():
                    kind = "MODIFIED" if uid in known else "ADDED"
                    known[uid] = item
                    yield Event(kind, item)
                async for event in self._changes(path, version):
                    uid = _uid(event.object)
                    if event.kind == "DELETED":
                        known.pop(uid, None)
                    else:
                        known[uid] = event.object
                    yield event
            except (httpx2.HTTPError, ApiError):
                await asyncio.sleep(_RETRY_SECONDS)

    async def _changes(self, path: str, version: str) -> AsyncIterator[Event]:
        """The changes after a version, until the server ends the watch or the version is gone."""
        while True:
            parameters: Mapping[str, str | int] = {
                "watch": "1",
                "resourceVersion": version,
                "allowWatchBookmarks": "true",
                "timeoutSeconds": _WATCH_SECONDS,
            }
            timeout = httpx2.Timeout(20, read=_WATCH_SECONDS + 30, pool=60)
            async with self._client.stream(
                "GET", path, params=parameters, timeout=timeout
            ) as response:
                if response.status_code >= 400:
                    await response.aread()
                    _check(response)
                rest = b""
                async for chunk in response.aiter_bytes():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in filter(None, lines):
                        change = orjson.loads(line)
                        item = change["object"]
                        if change["type"] == "ERROR":
                            return
                        version = str(item["metadata"]["resourceVersion"])
                        if change["type"] != "BOOKMARK":
                            yield Event(change["type"], item)

    async def _call(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json"
    ) -> Object:
        content = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": kind} if body is not None else {}
        response = await self._client.request(method, path, content=content, headers=headers)
        _check(response)
        answer: Object = orjson.loads(response.content)
        return answer


def _uid(item: Object) -> str:
    return str(item["metadata"]["uid"])


def _check(response: httpx2.Response) -> None:
    if response.status_code < 400:
        return
    try:
        status = orjson.loads(response.content)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (orjson.JSONDecodeError, AttributeError):
        reason, message = "", response.text.strip()
    raise ApiError(response.status_code, reason, message or f"HTTP {response.status_code}")
