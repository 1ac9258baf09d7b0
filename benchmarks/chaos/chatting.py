"""Clients that read every byte of what they are answered, and judge it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from urllib.parse import urlsplit

PATHS = {"/api/chat": "native", "/v1/chat/completions": "events"}
ANSWER_SECONDS = 240.0
"""What a client bears; a model that is wedged takes a minute or two to be found."""
LEAVING = 0.02
_BROKEN = (ConnectionError, asyncio.IncompleteReadError)


class Wrong(Exception):  # noqa: N818
    """Bytes that no correct proxy would have sent."""


class Client:
    """Chats one after another on one connection for as long as that lasts."""

    def __init__(
        self,
        url: str,
        texts: Mapping[str, str],
        random: Random,
        counts: Counter[str],
        key: Callable[[], str] | None = None,
    ) -> None:
        self._address = urlsplit(url)
        self._key = key
        self._texts = texts
        self._random = random
        self._counts = counts
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.complaints: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; the chat under way is finished."""
        while not stop.is_set():
            await self._one()
            if self._key:
                self._close()  # a load balancer gives a connection's requests to one replica
        self._close()

    async def _one(self) -> None:
        model = self._random.choice(sorted(self._texts))
        path = self._random.choice(sorted(PATHS))
        text: list[str] = []
        self._counts["asked"] += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                outcome = await self._chat(path, model, text)
        except (TimeoutError, *_BROKEN) as error:
            self._close()
            outcome = "cut off" if text else "lost"
            if not text:
                self.complaints.append(f"{type(error).__name__}: {error}")
        except Wrong as error:
            self._close()
            outcome = "wrong"
            self.complaints.append(str(error))
        got, expected = "".join(text), self._texts[model]
        if not expected.startswith(got) or (outcome == "whole" and got != expected):
            outcome = "wrong"
            self.complaints.append(f"{model}: {got[:2000]!r}")
        self._counts[outcome] += 1

    async def _chat(self, path: str, model: str, text: list[str]) -> str:
        asked = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": True}
        body = json.dumps(asked).encode()
        shown = f"Authorization: Bearer {self._key()}\r\n" if self._key else ""
        head = f"POST {path} HTTP/1.1\r\nHost: chaos\r\n{shown}Content-Length: {len(body)}\r\n\r\n"
        reader, writer = await self._connection()
        writer.write(head.encode() + body)
        leaves = self._random.random() < LEAVING
        if leaves:
            await asyncio.sleep(self._random.random() / 2)
            self._close()
            return "left"
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not answer.startswith(b"http/1.1 200 "):
            told = await reader.readuntil(b"}")
            self._close()
            self.complaints.append((answer.partition(b"\r\n")[0] + b" " + told).decode())
            return "lost"
        if b"transfer-encoding: chunked" not in answer:
            raise Wrong(f"no chunks: {answer!r}")
        ended = await self._pieces(reader, PATHS[path], text)
        if not ended:
            raise Wrong("the stream ended without its last line")
        return "whole"

    async def _pieces(self, reader: asyncio.StreamReader, form: str, text: list[str]) -> bool:
        """Collect the text; whether the answer's own end was in it."""
        rest, ended = b"", False
        while True:
            line = await reader.readuntil(b"\r\n")
            try:
                size = int(line[:-2], 16)
            except ValueError:
                raise Wrong(f"no chunk size: {line!r}") from None
            data = await reader.readexactly(size + 2)
            if data[-2:] != b"\r\n":
                raise Wrong(f"a chunk without its end: {data[-20:]!r}")
            if not size:
                if rest:
                    raise Wrong(f"half a line at the end: {rest!r}")
                return ended
            *lines, rest = (rest + data[:-2]).split(b"\n")
            for one in filter(None, lines):
                if ended:
                    raise Wrong(f"more after the end: {one!r}")
                ended = _read(one, form, text)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._open is None or self._open[0].at_eof():
            self._close()
            address = self._address
            self._open = await asyncio.open_connection(address.hostname, address.port)
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].transport.abort()
            self._open = None


def _read(line: bytes, form: str, text: list[str]) -> bool:
    """Take a line's text; whether it is the last."""
    if form == "events":
        line = line.removeprefix(b"data: ")
        if line == b"[DONE]":
            return True
    try:
        found = json.loads(line)
        if form == "events":
            text.append(found["choices"][0]["delta"].get("content", ""))
            return False
        text.append(found["message"]["content"])
        return bool(found["done"])
    except (ValueError, KeyError, IndexError) as error:
        raise Wrong(f"{error!r} in {line!r}") from None
