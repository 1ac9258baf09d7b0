"""An emulated server elsewhere: behind HTTPS, for whoever shows a token."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from dev.cluster.programs import free_ports
from dev.ollama.certificates import server_pair

HOST = "localhost"


class Front:
    """HTTPS before a server; `tokens` are those it takes."""

    def __init__(self, backend: str, folder: Path) -> None:
        address = urlsplit(backend)
        self.backend = (address.hostname, address.port)
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        (self.port,) = free_ports(1)
        self.url = f"https://{HOST}:{self.port}"
        self.tokens: set[str] = set()
        self.last: dict[str, float] = {}
        """When each token was shown last."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.renew()

    def draft(self) -> str:
        """Have a certificate by a new authority ready; that authority, as PEM."""
        certificate, key = server_pair(HOST, self._folder)
        self._draft = key + certificate, (self._folder / "ca.pem").read_text()
        return self._draft[1]

    def serve_draft(self) -> None:
        """New connections get it."""
        chain = self._folder / "front.pem"
        chain.touch(mode=0o600)
        chain.write_text(self._draft[0])
        self._context.load_cert_chain(chain)
        self.authority = self._draft[1]

    def renew(self) -> str:
        """Serve a certificate by a new authority from now on; that authority, as PEM."""
        self.draft()
        self.serve_draft()
        return self.authority

    def __enter__(self) -> Self:
        started = threading.Event()

        async def serve() -> None:
            server = await asyncio.start_server(
                self._connected, "127.0.0.1", self.port, ssl=self._context
            )
            started.set()
            async with server:
                await server.serve_forever()

        def run() -> None:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._serving)

        self._serving = self._loop.create_task(serve())
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one request after another; bodies end as their Content-Length says."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                pairs = (line.partition(":") for line in lines[1:] if line)
                fields = {name.lower(): value.strip() for name, _, value in pairs}
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                token = fields.get("authorization", "").removeprefix("Bearer ")
                self.last[token] = time.monotonic()
                if token not in self.tokens:
                    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                    continue
                await self._relay(head, body, writer)
                break
        writer.close()

    async def _relay(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        """One answer, until the server ends its connection."""
        back, forth = await asyncio.open_connection(*self.backend)
        first, _, rest = head.partition(b"\r\n")
        kept = [one for one in rest.split(b"\r\n") if one]
        kept = [one for one in kept if not one.lower().startswith(b"connection:")]
        forth.write(b"\r\n".join([first, *kept, b"Connection: close", b"", b""]) + body)
        try:
            while chunk := await back.read(65536):
                writer.write(chunk)
                await writer.drain()
        finally:
            forth.close()
