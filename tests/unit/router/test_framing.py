"""What the grammar takes and refuses; llhttp reads everything it takes in the same way."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.router.chunks import ChunkScanner
from ollama_fleet.router.errors import FramingError
from ollama_fleet.router.framing import head_fault, parse_request, parse_response

HOST = b"Host: fleet\r\n"


def request(fields: bytes, line: bytes = b"POST /api/chat HTTP/1.1") -> bytes:
    return line + b"\r\n" + fields + b"\r\n"


REFUSED = {
    "length and chunked": (HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
    "two equal lengths": (HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n", 400),
    "two lengths in one": (HOST + b"Content-Length: 3, 3\r\n", 400),
    "signed length": (HOST + b"Content-Length: +3\r\n", 400),
    "hexadecimal length": (HOST + b"Content-Length: 0x3\r\n", 400),
    "empty length": (HOST + b"Content-Length:\r\n", 400),
    "length too long": (HOST + b"Content-Length: 9999999999999999\r\n", 400),
    "other coding": (HOST + b"Transfer-Encoding: gzip\r\n", 400),
    "two codings": (HOST + b"Transfer-Encoding: gzip, chunked\r\n", 400),
    "chunked twice": (HOST + b"Transfer-Encoding: chunked\r\n" * 2, 400),
    "coding with a tab inside": (HOST + b"Transfer-Encoding: chun\tked\r\n", 400),
    "no Host": (b"Accept: */*\r\n", 400),
    "two Hosts": (HOST + HOST, 400),
    "odd Host": (b"Host: a b\r\n", 400),
    "Host with a path": (b"Host: a/b\r\n", 400),
    "Host with credentials": (b"Host: a@b\r\n", 400),
    "bare LF": (b"Host: fleet\nAccept: */*\r\n", 400),
    "bare CR": (b"Host: fleet\rAccept: */*\r\n", 400),
    "folded line": (HOST + b"Accept: a,\r\n b\r\n", 400),
    "leading fold": (b" Host: fleet\r\n" + HOST, 400),
    "space before colon": (HOST + b"Content-Length : 3\r\n", 400),
    "no colon": (HOST + b"Accept\r\n", 400),
    "empty name": (HOST + b": x\r\n", 400),
    "NUL in a value": (HOST + b"A: b\0c\r\n", 400),
    "control byte in a value": (HOST + b"A: b\x0bc\r\n", 400),
    "DEL in a value": (HOST + b"A: b\x7fc\r\n", 400),
    "non-ASCII name": (HOST + "é: x\r\n".encode(), 400),
    "other expectation": (HOST + b"Expect: 200-ok\r\n", 417),
}


@pytest.mark.parametrize(("fields", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_fields(fields: bytes, status: int) -> None:
    with pytest.raises(FramingError) as refused:
        parse_request(request(fields))
    assert refused.value.status == status
    assert refused.value.sentence


REFUSED_LINES = {
    "lower case": (b"post / HTTP/1.1", 400),
    "two spaces": (b"POST  / HTTP/1.1", 400),
    "tab": (b"POST\t/ HTTP/1.1", 400),
    "trailing space": (b"POST / HTTP/1.1 ", 400),
    "no version": (b"POST /", 400),
    "HTTP/2": (b"POST / HTTP/2.0", 505),
    "HTTP/0.9": (b"POST / HTTP/0.9", 505),
    "HTTP/1.2": (b"POST / HTTP/1.2", 400),
    "absolute": (b"POST http://x/ HTTP/1.1", 400),
    "authority": (b"CONNECT x:1 HTTP/1.1", 400),
    "asterisk": (b"OPTIONS * HTTP/1.1", 400),
    "fragment": (b"GET /a#b HTTP/1.1", 400),
    "control byte": (b"GET /a\x01 HTTP/1.1", 400),
    "raw UTF-8": ("GET /é HTTP/1.1".encode(), 400),
    "leading empty line": (b"\r\nGET / HTTP/1.1", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: fleet", 400),
}


@pytest.mark.parametrize(("line", "status"), REFUSED_LINES.values(), ids=REFUSED_LINES.keys())
def test_refused_lines(line: bytes, status: int) -> None:
    with pytest.raises(FramingError) as refused:
        parse_request(request(HOST, line))
    assert refused.value.status == status


def test_http_1_0_knows_no_chunks_and_is_not_kept() -> None:
    line = b"POST / HTTP/1.0"
    with pytest.raises(FramingError):
        parse_request(request(b"Transfer-Encoding: chunked\r\n", line))
    parsed = parse_request(request(b"Connection: keep-alive\r\n", line))
    assert not parsed.keep_alive


def test_what_the_head_says() -> None:
    parsed = parse_request(
        request(
            b"hOsT: fleet:80\r\nContent-Length: 12  \r\nConnection: X-Hop , close\r\n"
            b"Expect: 100-Continue\r\nX-Hop: 1\r\nX-Empty:\r\n"
        )
    )
    assert (parsed.method, parsed.target, parsed.minor) == (b"POST", b"/api/chat", 1)
    assert parsed.length == 12
    assert parsed.expects
    assert not parsed.keep_alive
    assert b"x-hop" in parsed.nominated
    assert (b"x-empty", b"") in parsed.fields
    assert not parsed.explains


@pytest.mark.parametrize(
    ("start", "wrong"),
    [
        (b"", False),
        (b"GET / HT", False),
        (b"GET / HTTP/1.1\r", False),
        (b"GET / HTTP/1.1\r\nHost: a\r", False),
        (b"GET / HTTP/1.1\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\nB", True),
        (b"GET / HTTP/1.1\rH", True),
        (b"\x16\x03\x01", True),
        (b"\r\n", True),
    ],
)
def test_an_unfinished_head_is_refused_as_soon_as_it_is_wrong(start: bytes, wrong: bool) -> None:
    assert (head_fault(start) is not None) == wrong


token = st.text(st.sampled_from("abcXYZ019-_.!~"), min_size=1, max_size=8)
value = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)


@given(st.lists(st.tuples(token, value), max_size=6), st.sampled_from(["/", "/api/chat?x=1"]))
def test_llhttp_reads_the_same(fields: list[tuple[str, str]], target: str) -> None:
    special = ("content-length", "transfer-encoding", "connection", "host", "upgrade", "expect")
    fields = [(name, text) for name, text in fields if name.lower() not in special]
    head = f"POST {target} HTTP/1.1\r\nHost: fleet\r\n"
    head += "".join(f"{name}: {text}\r\n" for name, text in fields) + "\r\n"
    seen: list[tuple[bytes, bytes]] = []

    class Other:
        def on_header(self, name: bytes, text: bytes) -> None:
            seen.append((name.lower(), text.strip()))

    httptools.HttpRequestParser(Other()).feed_data(head.encode())
    parsed = parse_request(head.encode())
    assert [(name, text.strip()) for name, text in parsed.fields] == seen


def test_response_heads() -> None:
    parsed = parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
    assert (parsed.status, parsed.length, parsed.keep_alive) == (200, 5, False)
    assert parse_response(b"HTTP/1.1 503\r\n\r\n").length is None
    chunked = parse_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert chunked.chunked


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n",
    ],
)
def test_refused_response_heads(head: bytes) -> None:
    with pytest.raises(FramingError):
        parse_response(head)


BODY = b"5\r\nhello\r\n1A\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, len(BODY)])
def test_chunks_in_any_pieces(step: int) -> None:
    scanner, payload = ChunkScanner(), list[bytes]()
    for start in range(0, len(BODY), step):
        piece = BODY[start : start + step]
        assert not scanner.done
        assert scanner.feed(piece, 0, payload) == len(piece)
    assert scanner.done
    assert b"".join(payload) == b"hello" + b"x" * 26


def test_chunks_end_where_the_next_message_starts() -> None:
    scanner = ChunkScanner()
    assert scanner.feed(BODY + b"POST / HTTP/1.1") == len(BODY)


@pytest.mark.parametrize("step", [1, 100])
@pytest.mark.parametrize(
    "body",
    [
        b"5;a=b\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello",
        b"123456789\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
        b"0\r\n\n",
    ],
)
def test_refused_chunks(body: bytes, step: int) -> None:
    scanner = ChunkScanner()
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    with pytest.raises(FramingError):
        list(map(scanner.feed, pieces))
