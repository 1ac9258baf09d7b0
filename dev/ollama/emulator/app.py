"""The emulator as a whole: routes, errors in each API's envelope, faults, statistics."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
import socket
import traceback
from collections.abc import Awaitable, Callable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dev.ollama.emulator.bodies import read_body
from dev.ollama.emulator.compatible import BadRequest, CompatibleApi
from dev.ollama.emulator.faults import Faults
from dev.ollama.emulator.generation import Generator, Refused
from dev.ollama.emulator.native import NativeApi
from dev.ollama.emulator.scheduler import Scheduler
from dev.ollama.emulator.server import Disconnected, Exchange
from dev.ollama.emulator.settings import Settings
from dev.ollama.emulator.stats import Stats
from dev.ollama.emulator.store import Store

if TYPE_CHECKING:
    from dev.ollama.emulator.pull import PullApi

Route = Callable[[Exchange], Awaitable[None]]
_TEXT = "text/plain; charset=utf-8"
_LOCAL_ORIGINS = {"localhost", "127.0.0.1", "0.0.0.0"}
_APP_SCHEMES = {"app", "file", "tauri", "vscode-webview", "vscode-file"}
_ANTHROPIC_TYPES = {400: "invalid_request_error", 404: "not_found_error", 503: "overloaded_error"}


class Emulator:
    """One server; `handle` answers any request."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stats = Stats()
        self.faults = Faults()
        self.store = Store(settings.models)
        scheduler = Scheduler(settings, self.stats)
        generator = Generator(settings, scheduler, self.faults, self.stats)
        native = NativeApi(settings, self.store, scheduler, generator, self.faults)
        compatible = CompatibleApi(native, self.store)
        self._routes: dict[str, dict[str, Route]] = {
            "/": {"GET": self._root, "HEAD": self._root},
            "/api/version": {"GET": native.version, "HEAD": native.version},
            "/api/tags": {"GET": native.tags, "HEAD": native.tags},
            "/api/ps": {"GET": native.ps},
            "/api/show": {"POST": native.show},
            "/api/delete": {"DELETE": native.delete},
            "/api/copy": {"POST": native.copy},
            "/api/create": {"POST": native.create},
            "/api/blobs/:digest": {"HEAD": native.blob, "POST": native.create},
            "/api/pull": {"POST": self._pull},
            "/api/chat": {"POST": native.chat},
            "/api/generate": {"POST": native.generate},
            "/api/embed": {"POST": native.embed},
            "/api/embeddings": {"POST": native.embeddings},
            "/v1/chat/completions": {"POST": compatible.chat},
            "/v1/completions": {"POST": compatible.completions},
            "/v1/embeddings": {"POST": compatible.embeddings},
            "/v1/models": {"GET": compatible.models},
            "/v1/models/:model": {"GET": compatible.model},
            "/v1/messages": {"POST": compatible.messages},
            "/_emulator/stats": {"GET": self._stats},
            "/_emulator/faults": {
                "GET": self._list_faults,
                "POST": self._add_fault,
                "DELETE": self._clear_faults,
            },
            "/_emulator/faults/:id": {"DELETE": self._clear_faults},
        }

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        path, methods = self._find(exchange.path)
        self.stats.requests[path or "other"] += 1
        self.stats.in_flight += 1
        try:
            if not self._allowed(exchange):
                return
            if self.faults and path and not path.startswith("/_emulator"):
                await self._strike(exchange)
                if exchange.ended:
                    return
            route = methods.get(exchange.method)
            if route is None:
                _no_route(exchange, methods, self._routes)
            else:
                await route(exchange)
        except Refused as error:
            _send_error(exchange, error)
        except Disconnected:
            self.stats.aborted += 1
        except asyncio.CancelledError:
            self.stats.aborted += 1
            raise
        except Exception as error:
            traceback.print_exc()
            if exchange.started:
                exchange.cut()
            else:
                _send_error(exchange, Refused(500, f"{type(error).__name__}: {error}"))
        finally:
            self.stats.in_flight -= 1

    def _find(self, path: str) -> tuple[str, dict[str, Route]]:
        methods = self._routes.get(path)
        if methods is not None:
            return path, methods
        parent, _, last = path.rpartition("/")
        for name in ("digest", "model", "id"):
            pattern = f"{parent}/:{name}"
            if last and pattern in self._routes:
                return pattern, self._routes[pattern]
        return "", {}

    def _allowed(self, exchange: Exchange) -> bool:
        origin = exchange.headers.get("origin")
        host = exchange.headers.get("host", "")
        if origin is None and not _is_foreign_host(self.settings.host, host):
            return True
        if origin is not None and self._is_known(origin, exchange):
            if exchange.method != "OPTIONS":
                return True
            exchange.send_empty(204, f"Access-Control-Allow-Origin: {origin}\r\n")
            return False
        exchange.send_empty(403)
        return False

    def _is_known(self, origin: str, exchange: Exchange) -> bool:
        parts = urlsplit(origin)
        return (
            parts.hostname in _LOCAL_ORIGINS
            or parts.scheme in _APP_SCHEMES
            or parts.netloc == exchange.headers.get("host")
            or bool({"*", origin} & set(self.settings.origins))
        )

    async def _strike(self, exchange: Exchange) -> None:
        """Apply the faults that hit a request before its answer begins."""
        path, model = exchange.path, ""
        if exchange.body:
            try:
                body = read_body(exchange.body, "")
                model = str(body.get("model") or body.get("name") or "")
            except Refused:
                model = ""
        if self.faults.strike("crash", path, model):
            os._exit(1)
        if self.faults.strike("hang", path, model):
            await asyncio.Event().wait()
        slow = self.faults.strike("slow_first_byte", path, model)
        if slow is not None:
            await asyncio.sleep(slow.seconds)
        if self.faults.strike("busy", path, model):
            message = "server busy, please try again.  maximum pending requests exceeded"
            raise Refused(503, message)
        fault = self.faults.strike("error", path, model)
        if fault is not None:
            raise Refused(fault.status, fault.message)

    async def _root(self, exchange: Exchange) -> None:
        exchange.send(200, b"Ollama is running", _TEXT)

    @cached_property
    def _pull_api(self) -> PullApi:
        from dev.ollama.emulator.pull import PullApi  # late: httpx2 is half of the start-up

        return PullApi(self.settings, self.store, self.faults, self.stats)

    async def _pull(self, exchange: Exchange) -> None:
        await self._pull_api.pull(exchange)

    async def _stats(self, exchange: Exchange) -> None:
        exchange.send_json(200, self.stats.as_json())

    async def _list_faults(self, exchange: Exchange) -> None:
        exchange.send_json(200, {"faults": self.faults.as_json()})

    async def _add_fault(self, exchange: Exchange) -> None:
        try:
            fault = self.faults.add(read_body(exchange.body, "Fault"))
        except (ValueError, TypeError) as error:
            raise Refused(400, str(error)) from None
        exchange.send_json(201, {"id": fault.id})
        if fault.kind == "crash" and not fault.path and not fault.model:
            asyncio.get_running_loop().call_later(0.02, os._exit, 1)

    async def _clear_faults(self, exchange: Exchange) -> None:
        last = exchange.path.rpartition("/")[2]
        self.faults.clear(int(last) if last.isdigit() else None)
        exchange.send_empty(204)


def _no_route(
    exchange: Exchange, methods: dict[str, Route], routes: dict[str, dict[str, Route]]
) -> None:
    path = exchange.path
    if methods:
        allow = f"Allow: {', '.join(methods)}\r\n"
        exchange.send(405, b"405 method not allowed", "text/plain", allow)
        return
    clean = "/" + "/".join(part for part in path.split("/") if part)
    if clean != path and clean in routes:
        # Go's own router cleans doubled slashes; gin's moves trailing ones.
        moved = 301 if "//" not in path and exchange.method == "GET" else 307
        exchange.send_empty(moved, f"Location: {clean}\r\n")
        return
    exchange.send(404, b"404 page not found", "text/plain")


def _send_error(exchange: Exchange, error: Refused) -> None:
    if exchange.path.startswith("/v1/messages"):
        kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
        body: dict[str, object] = {
            "type": "error",
            "error": {"type": kind, "message": error.message},
            "request_id": f"req_{secrets.token_hex(12)}",
        }
    elif exchange.path.startswith("/v1/"):
        kind = "invalid_request_error" if isinstance(error, BadRequest) else "api_error"
        body = {"error": {"message": error.message, "type": kind, "param": None, "code": None}}
    else:
        body = {"error": error.message}
    exchange.send_json(error.status, body)


@lru_cache(maxsize=1024)
def _is_foreign_host(listening: str, header: str) -> bool:
    """Whether the Host header is a stranger's; asked only on loopback, as Ollama does."""
    try:
        if not ipaddress.ip_address(listening).is_loopback:
            return False
    except ValueError:
        return False
    host = urlsplit("//" + header).hostname or ""
    try:
        address = ipaddress.ip_address(host)
        return not (address.is_loopback or address.is_private or address.is_unspecified)
    except ValueError:
        known = host in ("", "localhost", socket.gethostname().lower())
        return not known and not host.endswith((".localhost", ".local", ".internal"))
