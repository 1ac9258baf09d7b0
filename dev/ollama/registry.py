"""A local model registry with stand-ins under the library's names.

It is at once the HTTPS proxy that leads to it: programs started with `environment()` pull
`llama3.1:8b` from here, unmodified, believing it to be registry.ollama.ai.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

from dev.ollama import library, model
from dev.ollama.certificates import server_context
from dev.ollama.emulator.settings import quantity
from dev.ollama.library import Blob, Package
from ollama_fleet.api.names import InvalidModelName, ModelName

HOST = "registry.ollama.ai"
_CHUNK = 65536
Form = Callable[[str], Package | None]
_FORMS: dict[str, Form] = {
    "real": model.real,
    "sized": library.sized,
}


@dataclass(slots=True)
class Fault:
    """A fault of the next `count` downloads of bytes that begin with `digest`, after `after`
    bytes: `stall` stands still, `reset` drops the connection, `truncate` ends it in due form,
    `wrong_bytes` sends others, `error` answers 500 at once, `busy` 429 with a second of
    Retry-After. Or of the next `count` manifests: `unauthorized` answers 401, `too_many_requests`
    429 with `after` as the seconds to wait."""

    kind: str
    digest: str = ""
    after: int = 0
    count: int = 1


_DOWNLOAD = ("stall", "reset", "truncate", "wrong_bytes", "error", "busy")
_REFUSALS = {"unauthorized": 401, "too_many_requests": 429}


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Registry:
    """A registry on loopback, used as an async context manager.

    `form` is `real` (tiny files that run), `sized` (real sizes, synthetic bytes) or what gives a
    package for a name; `rate` is in bytes per second over all downloads, 0 for no limit.
    `user` (`name:password`) gets a token for one model at a time at /token, without which nothing
    is given.
    """

    def __init__(
        self,
        form: str | Form = "real",
        rate: float = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        user: str = "",
    ) -> None:
        self._package = _FORMS[form] if isinstance(form, str) else form
        self._user = user
        self._pace = _Pace(rate)
        self._address = (host, port)
        self._directory = tempfile.TemporaryDirectory(prefix="ollama-registry-")
        self._blobs: dict[str, Blob] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.faults: list[Fault] = []
        self.newer: dict[str, str] = {}
        """Names that stand for another model by now, as a tag does once it is pushed again."""
        self.requests: Counter[str] = Counter()
        self.served_bytes = 0

    async def __aenter__(self) -> Self:
        self._tls = server_context(HOST, Path(self._directory.name))
        self._server = await asyncio.start_server(self._connected, *self._address)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.host = f"{host}:{port}"
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._directory.cleanup()

    @property
    def url(self) -> str:
        """Where the registry answers in plain HTTP."""
        return f"http://{self.host}"

    def environment(self) -> dict[str, str]:
        """What sends a program here when it means registry.ollama.ai."""
        return {
            "HTTPS_PROXY": self.url,
            "SSL_CERT_FILE": str(Path(self._directory.name) / "ca.pem"),
            "NO_PROXY": "127.0.0.0/8,127.0.0.1,localhost",
        }

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # the client's affair
        except asyncio.CancelledError:
            pass  # closing; to raise here would only be logged
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await _read(reader)) is not None:
            if request.method != "CONNECT":
                await self._answer(request, writer)
                await writer.drain()
            elif request.target == f"{HOST}:443":
                self.requests["connect"] += 1
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.drain()
                await writer.start_tls(self._tls)
            else:
                self.requests["refused"] += 1
                text = f"this proxy leads to {HOST} only\n"
                _send(request, writer, 403, text.encode(), "text/plain")

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        send = partial(_send, request, writer)
        parts = request.target.partition("?")[0].strip("/").split("/")
        if parts[0] == "v2" and self._user and not self._is_known(request, parts):
            self.requests["unknown"] += 1
            challenge = f'Bearer realm="{self.url}/token",service="stand-in"'
            send(401, b"", "text/plain", f"WWW-Authenticate: {challenge}\r\n")
            return
        match parts:
            case ["token"]:
                self.requests["token"] += 1
                basic = base64.b64encode(self._user.encode()).decode()
                if request.headers.get("authorization") != f"Basic {basic}":
                    send(401, b"", "text/plain")
                    return
                token = _token(parse_qs(urlsplit(request.target).query)["scope"][0])
                send(200, json.dumps({"token": token}).encode(), "application/json")
            case ["v2", namespace, name, "manifests", tag]:
                self.requests["manifest"] += 1
                if (fault := self._fault("", tuple(_REFUSALS))) is not None:
                    error = _error(fault.kind.upper(), fault.kind.replace("_", " "), name)
                    wait = f"Retry-After: {fault.after}\r\n" if fault.after else ""
                    send(_REFUSALS[fault.kind], error, "application/json", wait)
                    return
                package = self._find(namespace, name, tag)
                if package is None:
                    error = _error("MANIFEST_UNKNOWN", "manifest unknown", f"unknown tag={tag}")
                    send(404, error, "application/json")
                    return
                digest = hashlib.sha256(package.manifest).hexdigest()
                head = f"Docker-Content-Digest: sha256:{digest}\r\n"
                send(200, package.manifest, library.MANIFEST_TYPE, head)
            case ["v2", _, _, "blobs", digest]:
                self.requests["blob"] += 1
                if digest not in self._blobs:
                    error = _error("BLOB_UNKNOWN", "blob unknown to registry", digest)
                    send(404, error, "application/json")
                    return
                send(307, b"", "text/plain", f"Location: {self._elsewhere(request)}/{digest}\r\n")
            case ["bytes", digest] if digest in self._blobs:
                self.requests["bytes"] += 1
                await self._send_blob(request, writer, digest)
            case ["_registry", "stats"]:
                stats = {"requests": dict(self.requests), "served_bytes": self.served_bytes}
                send(200, json.dumps(stats).encode(), "application/json")
            case ["_registry", "newer"]:
                self.newer.update(json.loads(request.body))
                send(200, json.dumps(self.newer).encode(), "application/json")
            case ["_registry", "faults"]:
                self._change_faults(request)
                faults = [asdict(fault) for fault in self.faults]
                send(200, json.dumps({"faults": faults}).encode(), "application/json")
            case ["_registry", "rate"] if request.method == "PUT":
                self._pace.rate = float(json.loads(request.body)["bytesPerSecond"])
                send(200, b"{}", "application/json")
            case _:
                send(404, b"404 page not found\n", "text/plain")

    def _is_known(self, request: _Request, parts: list[str]) -> bool:
        """Whether a request shows the token for the model it is about."""
        token = _token(f"repository:{'/'.join(parts[1:3])}:pull")
        return request.headers.get("authorization") == f"Bearer {token}"

    def _elsewhere(self, request: _Request) -> str:
        """Where the bytes are: here, by a name other than the one asked for. Ollama follows a
        redirect within one host name, and then misses the Location it wants."""
        host, port = self.host.split(":")
        asked = request.headers.get("host", "").partition(":")[0]
        return f"http://{'localhost' if asked == host else host}:{port}/bytes"

    def _find(self, namespace: str, name: str, tag: str) -> Package | None:
        try:
            full = ModelName(HOST, namespace, name, tag).canonical
        except InvalidModelName:
            return None
        package = self._package(self.newer.get(full, full))
        if package is not None:
            self._blobs.update(package.blobs)
        return package

    def _change_faults(self, request: _Request) -> None:
        if request.method == "DELETE":
            self.faults.clear()
        elif request.method == "POST":
            known = {field.name for field in fields(Fault)}
            values = json.loads(request.body)
            self.faults.append(Fault(**{k: v for k, v in values.items() if k in known}))

    async def _send_blob(
        self, request: _Request, writer: asyncio.StreamWriter, digest: str
    ) -> None:
        """Send a blob or a range of it."""
        blob = self._blobs[digest]
        begin, end = _range(request.headers.get("range", ""), blob.size)
        fault = self._fault(digest, _DOWNLOAD) if request.method == "GET" else None
        if fault is not None and fault.kind == "error":
            _send(request, writer, 500, b"internal server error\n", "text/plain")
            return
        if fault is not None and fault.kind == "busy":
            _send(request, writer, 429, b"slow down\n", "text/plain", "Retry-After: 1\r\n")
            return
        head = [
            "HTTP/1.1 206 Partial Content" if end - begin < blob.size else "HTTP/1.1 200 OK",
            "Accept-Ranges: bytes",
            "Content-Type: application/octet-stream",
            f"Content-Length: {end - begin}",
        ]
        if end - begin < blob.size:
            head.append(f"Content-Range: bytes {begin}-{end - 1}/{blob.size}")
        if len(blob.content) < blob.size:
            head.append(f"X-Synthetic-From: {len(blob.content)}")
        writer.write("\r\n".join([*head, "", ""]).encode())
        if request.method == "GET":
            await self._send_bytes(writer, blob, begin, end, fault)

    async def _send_bytes(
        self, writer: asyncio.StreamWriter, blob: Blob, begin: int, end: int, fault: Fault | None
    ) -> None:
        limit = min(end, begin + fault.after) if fault else end
        position = begin
        while position < end:
            if fault is not None and position >= limit:
                if fault.kind == "stall":
                    await asyncio.Event().wait()
                if fault.kind == "reset":
                    await writer.drain()
                    writer.transport.abort()
                    raise ConnectionResetError
                if fault.kind == "truncate":
                    await writer.drain()
                    raise ConnectionResetError
            stop = min(position + _CHUNK, limit if position < limit else end)
            chunk = blob.content[position:stop].ljust(stop - position, b"\0")
            if fault is not None and fault.kind == "wrong_bytes" and position >= limit:
                chunk = bytes(octet ^ 0xFF for octet in chunk)
            await self._pace.take(len(chunk))
            if writer.transport.is_closing():
                raise ConnectionResetError
            writer.write(chunk)
            await writer.drain()
            self.served_bytes += len(chunk)
            position = stop

    def _fault(self, digest: str, kinds: tuple[str, ...]) -> Fault | None:
        for fault in self.faults:
            if fault.kind in kinds and digest.startswith(fault.digest):
                fault.count -= 1
                if fault.count <= 0:
                    self.faults.remove(fault)
                return fault
        return None


class _Pace:
    """A common byte rate of all downloads."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        if self.rate:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size / self.rate
            await asyncio.sleep(self._free_at - now)


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    """One request; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return _Request(method, target, headers, body)


def _send(
    request: _Request,
    writer: asyncio.StreamWriter,
    status: int,
    content: bytes,
    content_type: str,
    head: str = "",
) -> None:
    lines = (
        f"HTTP/1.1 {status} \r\n{head}Content-Type: {content_type}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    writer.write(lines.encode() + (b"" if request.method == "HEAD" else content))


def _range(text: str, size: int) -> tuple[int, int]:
    """The bytes asked for, as begin and end; all of them without a Range."""
    first, separator, last = text.removeprefix("bytes=").partition("-")
    if not separator or not first.isdigit():
        return 0, size
    end = min(size, int(last) + 1) if last.isdigit() else size
    return min(int(first), end), end


def _error(code: str, message: str, detail: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()


def _token(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()


async def _serve(form: str, rate: float, port: int) -> None:
    """Serve until SIGTERM or SIGINT; the first line on standard output says where, as JSON."""
    async with Registry(form=form, rate=rate, port=port) as registry:
        print(json.dumps({"url": registry.url, "environment": registry.environment()}), flush=True)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()


def main() -> int:
    """Start from the command line."""
    parser = argparse.ArgumentParser(description="a local model registry of stand-ins")
    parser.add_argument("--port", type=int, default=0, help="0 for a free one")
    parser.add_argument("--rate", default="0", help="bytes per second, like 50M; 0 for no limit")
    parser.add_argument("--form", choices=sorted(_FORMS), default="real")
    arguments = parser.parse_args()
    try:
        rate = quantity(arguments.rate)
        asyncio.run(_serve(arguments.form, rate, arguments.port))
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
