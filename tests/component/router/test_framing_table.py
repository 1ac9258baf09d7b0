"""Hostile and odd requests: what a server behind the router gets of each, byte by byte."""

import asyncio
import json
import re
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.component.router.conftest import Running, Serve, Start
from tests.component.router.peers import (
    CHAT,
    LAST_CHUNK,
    STREAM_HEAD,
    Backend,
    Client,
    Exchange,
    chunk,
    eventually,
    say,
)

POST = b"POST /api/chat HTTP/1.1\r\n"
HOST = b"Host: fleet\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(CHAT)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
GOOD = POST + HOST + LENGTH + b"\r\n" + CHAT
SMUGGLED = b"POST /api/delete HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
IN_CHUNKS = chunk(CHAT[:7]) + chunk(CHAT[7:]) + LAST_CHUNK


def head(*fields: bytes, line: bytes = POST) -> bytes:
    return line + b"".join(one + b"\r\n" for one in fields) + b"\r\n"


def plain(*fields: bytes, line: bytes = POST) -> bytes:
    """A request that is well but for its fields or its line."""
    return head(b"Host: fleet", b"Content-Length: %d" % len(CHAT), *fields, line=line) + CHAT


@dataclass
class Row:
    """What is sent, the statuses that are answered, and the bodies that reach the server."""

    sent: bytes
    statuses: list[int]
    bodies: list[bytes] = field(default_factory=list)


def refused(sent: bytes, status: int = 400) -> Row:
    """Refused, and with it whatever follows on the connection."""
    return Row(sent + SMUGGLED, [status])


def passed(sent: bytes, *bodies: bytes) -> Row:
    return Row(sent, [200] * max(1, len(bodies)), list(bodies) or [CHAT])


NUL = bytes(1)
TABLE = {
    # two ways to tell the length
    "CL and TE": refused(plain(CHUNKED[:-2])),
    "TE and CL": refused(head(b"Host: f", CHUNKED[:-2], b"Content-Length: 4") + IN_CHUNKS),
    "CL 0 and TE": refused(head(b"Host: f", b"Content-Length: 0", CHUNKED[:-2]) + IN_CHUNKS),
    "two CL that differ": refused(plain(b"Content-Length: 0")),
    "two CL that differ, the other way": refused(
        head(b"Host: f", b"Content-Length: 0", b"Content-Length: %d" % len(CHAT)) + CHAT
    ),
    "two CL that agree": refused(plain(b"Content-Length: %d" % len(CHAT))),
    "CL list": refused(head(b"Host: f", b"Content-Length: 2, 2") + b"{}"),
    "CL with a sign": refused(head(b"Host: f", b"Content-Length: +2") + b"{}"),
    "CL below zero": refused(head(b"Host: f", b"Content-Length: -1")),
    "CL in hex": refused(head(b"Host: f", b"Content-Length: 0x2") + b"{}"),
    "CL empty": refused(head(b"Host: f", b"Content-Length: ")),
    "CL with a space inside": refused(head(b"Host: f", b"Content-Length: 1 0")),
    "CL in other digits": refused(head(b"Host: f", "Content-Length: ٢".encode())),
    "CL with underscores": refused(head(b"Host: f", b"Content-Length: 1_0")),
    "CL beyond 64 bits": refused(head(b"Host: f", b"Content-Length: 99999999999999999999")),
    "CL that is large": refused(head(b"Host: f", b"Content-Length: 999999999"), 413),
    "CL with zeros before": passed(head(b"Host: f", b"Content-Length: 00057") + CHAT),
    "CL before a space": refused(head(b"Host: f", b"Content-Length : 2") + b"{}"),
    "CL before a tab": refused(head(b"Host: f", b"Content-Length\t: 2") + b"{}"),
    # transfer codings
    "TE gzip": refused(head(b"Host: f", b"Transfer-Encoding: gzip")),
    "TE gzip, chunked": refused(head(b"Host: f", b"Transfer-Encoding: gzip, chunked") + IN_CHUNKS),
    "TE chunked, identity": refused(head(b"Host: f", b"Transfer-Encoding: chunked, identity")),
    "TE identity": refused(head(b"Host: f", b"Transfer-Encoding: identity")),
    "TE twice": refused(head(b"Host: f", CHUNKED[:-2], CHUNKED[:-2]) + IN_CHUNKS),
    "TE quoted": refused(head(b"Host: f", b'Transfer-Encoding: "chunked"') + IN_CHUNKS),
    "TE with a vertical tab": refused(head(b"Host: f", b"Transfer-Encoding: \x0bchunked")),
    "TE with a parameter": refused(head(b"Host: f", b"Transfer-Encoding: chunked;q=1")),
    "TE empty": refused(head(b"Host: f", b"Transfer-Encoding:") + IN_CHUNKS),
    "TE before a space": refused(head(b"Host: f", b"Transfer-Encoding : chunked") + IN_CHUNKS),
    "TE on 1.0": refused(head(CHUNKED[:-2], line=b"POST /api/chat HTTP/1.0\r\n") + IN_CHUNKS),
    "TE in capitals": passed(head(b"Host: f", b"TRANSFER-ENCODING: ChUnKeD") + IN_CHUNKS),
    "TE with an underscore": passed(plain(b"Transfer_Encoding: chunked")),
    # chunks
    "chunk extension": refused(head(b"Host: f", CHUNKED[:-2]) + b"2;a=b\r\n{}\r\n0\r\n\r\n"),
    "chunk size with a sign": refused(head(b"Host: f", CHUNKED[:-2]) + b"+2\r\n{}\r\n0\r\n\r\n"),
    "chunk size 0x2": refused(head(b"Host: f", CHUNKED[:-2]) + b"0x2\r\n{}\r\n0\r\n\r\n"),
    "chunk size with a space": refused(head(b"Host: f", CHUNKED[:-2]) + b"2 \r\n{}\r\n0\r\n\r\n"),
    "chunk size empty": refused(head(b"Host: f", CHUNKED[:-2]) + b"\r\n{}\r\n0\r\n\r\n"),
    "chunk size of 17 digits": refused(head(b"Host: f", CHUNKED[:-2]) + b"0" * 16 + b"2\r\n{}"),
    "chunk size that is large": refused(head(b"Host: f", CHUNKED[:-2]) + b"7fffffff\r\n", 413),
    "chunk shorter than it says": refused(head(b"Host: f", CHUNKED[:-2]) + b"5\r\n{}\r\n0\r\n\r\n"),
    "chunk longer than it says": refused(head(b"Host: f", CHUNKED[:-2]) + b"1\r\n{}\r\n0\r\n\r\n"),
    "chunk with bare LF": refused(head(b"Host: f", CHUNKED[:-2]) + b"2\n{}\n0\n\n"),
    "chunk ended by CR": refused(head(b"Host: f", CHUNKED[:-2]) + b"2\r{}\r\n0\r\n\r\n"),
    "trailers": refused(head(b"Host: f", CHUNKED[:-2]) + b"0\r\nContent-Length: 5\r\n\r\n"),
    "many small chunks": passed(
        head(b"Host: f", CHUNKED[:-2]) + b"".join(chunk(CHAT[i : i + 1]) for i in range(len(CHAT)))
        + LAST_CHUNK
    ),
    "chunk size in capitals": passed(
        head(b"Host: f", CHUNKED[:-2]) + b"0039\r\n" + CHAT + b"\r\n" + LAST_CHUNK
    ),
    # line ends and folds
    "bare LF": refused(GOOD.replace(b"\r\n", b"\n")),
    "one bare LF": refused(POST + b"Host: fleet\n" + LENGTH + b"\r\n" + CHAT),
    "bare CR": refused(POST + b"Host: fleet\rX: y\r\n" + LENGTH + b"\r\n" + CHAT),
    "CR CR LF": refused(POST + b"Host: fleet\r\r\n" + LENGTH + b"\r\n" + CHAT),
    "LF before the head ends": refused(POST + HOST + LENGTH + b"\n" + CHAT),
    "folded line": refused(plain(b"X: a\r\n b")),
    "folded by a tab": refused(plain(b"X: a\r\n\tTransfer-Encoding: chunked")),
    "fold at the start": refused(POST + b" Host: fleet\r\n" + LENGTH + b"\r\n" + CHAT),
    "empty line first": refused(b"\r\n" + GOOD),
    # fields
    "no colon": refused(plain(b"Nonsense")),
    "empty name": refused(plain(b": x")),
    "space in a name": refused(plain(b"X Y: z")),
    "NUL in a value": refused(plain(b"X: a" + NUL)),
    "NUL in a name": refused(plain(b"X" + NUL + b": a")),
    "escape in a value": refused(plain(b"X: \x1b[2J")),
    "two hosts": refused(plain(b"Host: other")),
    "no host": refused(POST + LENGTH + b"\r\n" + CHAT),
    "host with a path": refused(POST + b"Host: f/../x\r\n" + LENGTH + b"\r\n" + CHAT),
    "host with credentials": refused(POST + b"Host: a@f\r\n" + LENGTH + b"\r\n" + CHAT),
    "huge value": refused(plain(b"X: " + b"x" * 40_000), 431),
    "many fields": refused(plain(*[b"X-%d: y" % n for n in range(5000)]), 431),
    "expectation": refused(plain(b"Expect: 200-maybe"), 417),
    "upgrade": refused(plain(b"Connection: Upgrade", b"Upgrade: websocket"), 501),
    "nominated length": passed(plain(b"Connection: Content-Length")),
    "nominated host": passed(plain(b"Connection: close, Host, X-A", b"X-A: b")),
    "empty value": passed(plain(b"X-Empty:")),
    "odd but allowed": passed(plain(b"!#$%&'*+-.^_`|~0: \xe9\xff")),
    "no length": Row(POST + HOST + b"\r\n" + CHAT, [400]),
    # lines
    "lower-case method": refused(GOOD.replace(b"POST", b"post", 1)),
    "two spaces": refused(plain(line=b"POST  /api/chat HTTP/1.1\r\n")),
    "tab for a space": refused(plain(line=b"POST\t/api/chat HTTP/1.1\r\n")),
    "no version": refused(plain(line=b"POST /api/chat\r\n")),
    "HTTP/1.2": refused(plain(line=b"POST /api/chat HTTP/1.2\r\n")),
    "HTTP/2.0": refused(plain(line=b"POST /api/chat HTTP/2.0\r\n"), 505),
    "HTTP/0.9": refused(plain(line=b"POST /api/chat HTTP/0.9\r\n"), 505),
    "HTTP/01.1": refused(plain(line=b"POST /api/chat HTTP/01.1\r\n")),
    "HTTP/2 preface": refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "TLS": refused(b"\x16\x03\x01\x02\x00\x01\x00"),
    "absolute target": refused(plain(line=b"POST http://x/api/chat HTTP/1.1\r\n")),
    "authority target": refused(plain(line=b"CONNECT x:1 HTTP/1.1\r\n")),
    "asterisk target": refused(plain(line=b"OPTIONS * HTTP/1.1\r\n")),
    "fragment": refused(plain(line=b"POST /api/chat#x HTTP/1.1\r\n")),
    "CR in the target": refused(plain(line=b"POST /api/chat\rX: HTTP/1.1\r\n")),
    "non-ASCII target": refused(plain(line="POST /api/chät HTTP/1.1\r\n".encode())),
    "line end in the target": Row(plain(line=b"POST /api/chat%0d%0aX:y HTTP/1.1\r\n"), [404]),
    "path that climbs": Row(plain(line=b"POST /api/chat/../delete HTTP/1.1\r\n"), [404]),
    "path that climbs in disguise": Row(plain(line=b"POST /api/%2e%2e/delete HTTP/1.1\r\n"), [404]),
    "doubled slash": Row(plain(line=b"POST //api/chat HTTP/1.1\r\n"), [404]),
    "encoded letter": passed(plain(line=b"POST /%61pi/chat HTTP/1.1\r\n")),
    "query": passed(plain(line=b"POST /api/chat?x=%0d%0aHost:y HTTP/1.1\r\n")),
    # several on one connection
    "pipelined": passed(GOOD * 3, CHAT, CHAT, CHAT),
    "pipelined, the second refused": Row(
        GOOD + head(b"Host: f", b"Content-Length: 1, 1") + SMUGGLED, [200, 400], [CHAT]
    ),
    "a length that ends early": Row(
        head(b"Host: fleet", b"Content-Length: 2") + b"{}" + GOOD, [400, 200], [CHAT]
    ),
    "a request inside a body": passed(
        head(b"Host: fleet", b"Content-Length: %d" % (len(CHAT) + 200))
        + CHAT[:-1] + b" " * 200 + b"}",
        CHAT[:-1] + b" " * 200 + b"}",
    ),
    "close, and then more": Row(
        plain(b"Connection: close") + SMUGGLED, [200], [CHAT]
    ),
    "HTTP/1.0, and then more": Row(
        b"POST /api/chat HTTP/1.0\r\n" + LENGTH + b"\r\n" + CHAT + SMUGGLED, [200], [CHAT]
    ),
    # ends early
    "half a line": Row(b"POST /api", []),
    "half a head": Row(POST + HOST + LENGTH, []),
    "half a body": Row(GOOD[:-3], []),
    "half a chunk": Row(head(b"Host: f", CHUNKED[:-2]) + b"39\r\n" + CHAT[:5], []),
    "chunks without their end": Row(head(b"Host: f", CHUNKED[:-2]) + chunk(CHAT), []),
    "nothing": Row(b"", []),
}  # fmt: skip

MESSAGE = re.compile(
    rb"POST /api/chat HTTP/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?[\t\x20-\x7e\x80-\xff]*\r\n)*?"
    rb"content-length: (\d+)\r\n\r\n"
)
NEVER = {
    b"transfer-encoding",
    b"connection",
    b"expect",
    b"upgrade",
    b"te",
    b"trailer",
    b"keep-alive",
}


class Recorder(Backend):
    """Keeps every byte that comes on connections for anything but probes."""

    def __init__(self) -> None:
        super().__init__(self._answer, {})
        self.streams: list[bytearray] = []

    async def _answer(self, exchange: Exchange) -> None:
        raise AssertionError

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            if first == b"G":  # a probe; nothing else is relayed with that method
                while True:
                    rest = await reader.readuntil(b"\r\n\r\n")
                    await self._probed(Exchange(first + rest, b"", reader, writer))
                    first = b""
            stream = bytearray(first)
            self.streams.append(stream)
            answered = 0
            while data := await reader.read(65536):
                stream += data
                whole = len(bodies_of(bytes(stream), whole=False))
                for _ in range(whole - answered):
                    await say(b"hello")(Exchange(b"", b"", reader, writer))
                answered = whole
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def bodies(self) -> list[bytes]:
        """What came, each message checked to the last byte."""
        return [body for stream in self.streams for body in bodies_of(bytes(stream))]


def bodies_of(stream: bytes, *, whole: bool = True) -> list[bytes]:
    """Split what the router sent by the strictest reading there is; fails on anything else."""
    bodies = []
    while stream:
        match = MESSAGE.match(stream)
        if match is None or len(stream) < match.end() + int(match[1]):
            assert not whole, stream
            break
        names = [line.partition(b":")[0].lower() for line in match[0].split(b"\r\n")[1:-2]]
        assert names.count(b"content-length") == names.count(b"host") == 1
        assert not set(names) & NEVER
        end = match.end() + int(match[1])
        bodies.append(stream[match.end() : end])
        stream = stream[end:]
    return bodies


@pytest.fixture
async def recorder() -> Any:
    made = Recorder()
    await made.listen()
    yield made
    await made.stop()


def cut(message: bytes, places: list[float]) -> list[bytes]:
    """The message cut at these fractions of its length."""
    at = sorted({int(place * len(message)) for place in places} - {0})
    return [message[a:b] for a, b in zip([0, *at], [*at, len(message)], strict=True)]


async def answers(router: Running, recorder: Recorder, row: Row, pieces: list[bytes]) -> None:
    # on a connection of its own, as what came before is nobody's concern
    recorder.streams.clear()
    pool = router.router.relay.pool(router.router.fleet.snapshot.servers[0])
    pool.close()
    pool.closed = False
    client = await Client.connect(router.port)
    for piece in pieces:
        client.send(piece)
        await asyncio.sleep(0)
    got = [(await client.reply()).status for _ in row.statuses]
    if not row.statuses:
        await eventually(lambda: router.router._frontage.fronts)
        client.writer.write_eof()
        assert await client.closed() == b""
    client.leave()
    await eventually(lambda: not router.router._frontage.fronts)
    assert got == row.statuses
    assert recorder.bodies() == row.bodies


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 60


@pytest.mark.parametrize("name", TABLE)
async def test_what_reaches_a_server(start: Start, recorder: Recorder, name: str) -> None:
    row = TABLE[name]
    router = await start(recorder, health={"interval": "60s"})
    await answers(router, recorder, row, [row.sent])


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(places=st.lists(st.floats(0, 1), max_size=6), seed=st.integers(0, 2**32))
async def test_wherever_a_request_is_cut_the_same_reaches_a_server(
    start: Start, recorder: Recorder, places: list[float], seed: int
) -> None:
    router = await start(recorder, health={"interval": "60s"})
    random = Random(seed)
    for name in random.sample(sorted(TABLE), 12):
        row = TABLE[name]
        await answers(router, recorder, row, cut(row.sent, places))


LINE = json.dumps({"message": {"content": "x"}}).encode() + b"\n"
EVENT = b"data: " + LINE + b"\n"
ANSWERS = {
    "chunks": (STREAM_HEAD + chunk(LINE) * 5 + LAST_CHUNK, LINE * 5),
    "events": (
        STREAM_HEAD.replace(b"application/x-ndjson", b"text/event-stream")
        + chunk(EVENT) * 3 + chunk(b"data: [DONE]\n\n") + LAST_CHUNK,
        EVENT * 3 + b"data: [DONE]\n\n",
    ),
    "chunk sizes in capitals": (STREAM_HEAD + b"00A\r\n0123456789\r\n" + LAST_CHUNK, b"0123456789"),
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + b"y" * 300, b"y" * 300),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "error": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
    "interim": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + STREAM_HEAD + chunk(LINE) + LAST_CHUNK,
        LINE,
    ),
}  # fmt: skip


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(places=st.lists(st.floats(0, 1), max_size=12), minor=st.sampled_from((0, 1)))
async def test_wherever_an_answer_is_cut_the_client_gets_the_same(
    start: Start, serve: Serve, places: list[float], minor: int
) -> None:
    name = ""

    async def answer(exchange: Exchange) -> None:
        for piece in cut(ANSWERS[name][0], places):
            await exchange.send(piece)
            await asyncio.sleep(0)

    router = await start(await serve(answer), health={"interval": "60s"})
    for name, (_, body) in ANSWERS.items():
        client = await Client.connect(router.port)
        line = b"POST /api/chat HTTP/1.%d\r\n" % minor
        client.send(line + HOST + LENGTH + b"\r\n" + CHAT)
        reply = await client.reply()
        assert (reply.body, reply.whole) == (body, True), name
        if minor and name != "interim":
            client.ask()
            assert (await client.reply()).body == body
        client.leave()
