"""What people put before an Ollama on a machine of theirs: TLS, and a key to be shown."""

import asyncio
import re
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from dev.ollama.certificates import server_context

_REFUSAL = b"""HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"""


class Front:
    """Passes on to `upstream` the requests that carry `key` as their Authorization.

    With a `directory`, it serves TLS by a certificate for localhost, of an authority made there.
    """

    def __init__(self, upstream: str, key: str, directory: Path | None = None) -> None:
        self.key = key
        self.passed: list[str] = []
        """The paths of the requests passed on."""
        self.refused = 0
        self._upstream = urlsplit(upstream)
        self._directory = directory
        self._context = server_context("localhost", directory) if directory else None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self._context else 'http'}://localhost:{port}"

    @property
    def authority(self) -> str:
        """The certificate of its authority, as PEM."""
        assert self._directory is not None
        return (self._directory / "ca.pem").read_text()

    def renew(self) -> None:
        """From now on, show a certificate of another authority."""
        assert self._directory is not None
        assert self._context is not None
        server_context("localhost", self._directory)
        self._context.load_cert_chain(self._directory / "server.pem")

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            shown = re.findall(r"^authorization: (.*)\r$", head, re.IGNORECASE | re.MULTILINE)
            if shown != [self.key]:
                self.refused += 1
                words = f"no such key: {shown}".encode()  # an unkind server tells what it was shown
                writer.write(_REFUSAL % (len(words), words))
                await writer.drain()
                return
            self.passed.append(head.split(" ")[1])
            once = re.sub(r"(?im)^connection: .*\r\n", "", head)[:-2] + "Connection: close\r\n\r\n"
            await self._pass_on(once.encode("latin-1"), reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, port = self._upstream.hostname, self._upstream.port
        inner, outer = await asyncio.open_connection(host, port)
        outer.write(head)
        asked = asyncio.create_task(_copy(reader, outer))
        try:
            await _copy(inner, writer)
        finally:
            asked.cancel()
            await asyncio.wait((asked,))
            outer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
