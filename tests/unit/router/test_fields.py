"""What is remembered of lines changes nothing but the time they take."""

import pytest

from ollama_fleet.router.errors import FramingError
from ollama_fleet.router.fields import FROM_CLIENTS, FROM_SERVERS
from ollama_fleet.router.framing import parse_request, parse_response

START = b"POST /api/chat HTTP/1.1\r\n"
FIELDS = b"Host: fleet\r\nAccept: a/b\r\nX-Api-Key: secret\r\nX-Other: 1\r\nContent-Length: 3\r\n"


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    FROM_CLIENTS.kinds.clear()
    FROM_SERVERS.kinds.clear()


def test_a_head_means_the_same_the_second_time() -> None:
    first, second = (parse_request(START + FIELDS + b"\r\n") for _ in range(2))
    assert first.passed == second.passed == [b"Accept: a/b", b"X-Other: 1"]
    assert first.fields == second.fields
    assert first.length == second.length == 3


def test_no_credential_is_remembered() -> None:
    parse_request(START + FIELDS + b"\r\n")
    assert set(FROM_CLIENTS.kinds) == {b"Host: fleet", b"Accept: a/b"}


@pytest.mark.parametrize(
    "more", [b"Host: fleet\r\n", b"Accept: a/b\nX: 1\r\n", b"Accept: a/b\0\r\n"]
)
def test_familiar_lines_excuse_nothing(more: bytes) -> None:
    parse_request(START + FIELDS + b"\r\n")
    with pytest.raises(FramingError):
        parse_request(START + FIELDS + more + b"\r\n")


@pytest.mark.parametrize("line", [b"Accept: a\0b", b"Accept: a\nb", b"User-Agent: \x7f"])
def test_what_is_refused_is_refused_again(line: bytes) -> None:
    for _ in range(2):
        with pytest.raises(FramingError):
            parse_request(START + b"Host: fleet\r\n" + line + b"\r\n\r\n")


def test_memory_is_bounded() -> None:
    for number in range(3000):
        parse_request(START + b"Host: fleet\r\nAccept: %d\r\n\r\n" % number)
    parse_request(START + b"Host: fleet\r\nAccept: " + b"x" * 500 + b"\r\n\r\n")
    assert len(FROM_CLIENTS.kinds) <= 1024
    assert max(map(len, FROM_CLIENTS.kinds)) < 200


def test_the_type_of_a_stream_stays_one() -> None:
    for kind, streams in ((b"text/event-stream", True), (b"application/json", False)) * 2:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n"
        assert parse_response(head).streams is streams
