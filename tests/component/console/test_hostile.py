"""What no client of good will sends: it is refused with a sentence, and others are served on."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from ollama_fleet.console import asked, patience
from ollama_fleet.console.calls import CALLS
from tests.component.console.memory import console

MACHINE = {
    "machine_name": "gpu-box",
    "ip_address": "192.0.2.7",
    "ollama_version": "0.17.4",
    "ollama_port": 11434,
}
GOOD = "Authorization: Bearer good\r\n"
REGISTERED = b'{"agent_id":"fleet.gpu-box","status":"registered"}'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with console() as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx2.Client]:
    bearer = {"Authorization": "Bearer good"}
    with httpx2.Client(base_url=url, headers=bearer, trust_env=False, timeout=10) as client:
        yield client


def register(**changes: Any) -> str:
    return json.dumps(MACHINE | changes)


def raw(url: str, sent: bytes) -> bytes:
    """Everything that comes back until the connection is closed, or nothing more comes."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


BODIES: dict[str, str | bytes] = {
    "nothing": "",
    "another type": "[]",
    "deep": '{"machine_name": ' + "[" * 50_000 + "]" * 50_000 + "}",
    "deep where nobody looks": register()[:-1] + ', "more": ' + "[" * 50_000 + "]" * 50_000 + "}",
    "a number without end": register().replace("11434", "1" * 10_000),
    "more than a float holds": register().replace("11434", "1e999"),
    "not a number": register().replace("11434", "NaN"),
    "NUL in a name": register(machine_name="a\0b"),
    "NUL in a version": register(ollama_version="0.17.4\0"),
    "lines for the log": register(gpu_model="A100\n2026-01-01 INFO registration successful"),
    "half a pair": register().replace("gpu-box", "\\ud800"),
    "no UTF-8": register().encode().replace(b"gpu-box", b"\xff\xfe"),
    "UTF-16": register().encode("utf-16"),
    "a mark before it": b"\xef\xbb\xbf" + register().encode(),
    "a name of too many letters": register(machine_name="a" * 254),
    "a name that leads elsewhere": register(machine_name="../../a b"),
    "no machine's address": register(ip_address="0.0.0.0"),
    "a name for an address": register(ip_address="metadata.internal"),
    "two documents": register() * 2,
}


@pytest.mark.parametrize("name", BODIES)
def test_odd_bodies_are_refused(client: httpx2.Client, name: str) -> None:
    answer = client.post("/api/agents", content=BODIES[name])
    assert answer.status_code == 400, answer.text
    assert "\n" not in answer.json()["error"]
    assert len(answer.json()["error"]) < 400


def test_of_keys_that_are_there_twice_the_last_counts(client: httpx2.Client) -> None:
    body = register()[:-1] + ', "machine_name": "other"}'
    assert client.post("/api/agents", content=body).json()["agent_id"] == "fleet.other"


def test_a_long_body_is_not_read_to_its_end(url: str) -> None:
    head = f"POST /api/agents HTTP/1.1\r\nHost: a\r\n{GOOD}"
    sized = f"{head}Content-Length: 999999999\r\n\r\n".encode() + b" " * (asked.LARGEST + 1)
    assert raw(url, sized).startswith(b"HTTP/1.1 413 ")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    parted = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 5
    assert raw(url, parted).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (GOOD + "Transfer-Encoding: chunked\r\n", 201),
        (GOOD + "Authorization: Bearer weak\r\nTransfer-Encoding: chunked\r\n", 400),
        (GOOD + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        (GOOD + "Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        (GOOD + "Content-Length: -1\r\n", 400),
        (GOOD + "Transfer-Encoding: gzip, chunked\r\n", 400),
        (GOOD + "X: " + "a" * 100_000 + "\r\n", 400),
        ("Authorization: Bearer " + "a" * 10_000 + "\r\nContent-Length: 0\r\n", 401),
        ("Authorization: Basic Z29vZDpnb29k\r\nContent-Length: 0\r\n", 401),
        ("Authorization: Bearer good, Bearer weak\r\nContent-Length: 0\r\n", 401),
        ("Authorization : Bearer good\r\nContent-Length: 0\r\n", 400),
        ("Cookie: token=good\r\nContent-Length: 0\r\n", 401),
        ("", 401),
    ],
)
def test_ambiguous_and_giant_heads_are_refused(url: str, headers: str, status: int) -> None:
    told = register(machine_name="chunked").encode()
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(told), told) if "chunked" in headers else b""
    sent = f"POST /api/agents HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode() + body
    assert raw(url, sent).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    "path",
    [
        "/api/agents/",
        "//api/agents",
        "/api//agents",
        "/api/./agents",
        "/api/x/../agents",
        "/api/agents/..%2f..%2fmetrics",
        "/api/agents%2Fa",
        "/api/agents/a%2Fmodels",
        "/API/agents",
        "/api/agents%00",
        "/api/agents;a",
        "http://elsewhere/api/agents",
        "/etc/passwd",
        "/static/../main.py",
        "/..%2f..%2fetc%2fpasswd",
    ],
)
def test_paths_lead_nowhere_else(url: str, path: str) -> None:
    sent = f"GET {path} HTTP/1.1\r\nHost: a\r\n{GOOD}Connection: close\r\n\r\n"
    answer = raw(url, sent.encode())
    assert answer.startswith(b"HTTP/1.1 404 "), answer[:200]
    assert b"x-content-type-options: nosniff" in answer


@pytest.mark.parametrize("identity", ["%00", "a%0d%0ab", "%ff", "%F0%9F%A6%99", "a" * 9000, "'\""])
def test_odd_ids_are_of_nothing(client: httpx2.Client, identity: str) -> None:
    for path in ("/api/agents/{}", "/api/tasks/{}", "/api/agents/{}/models"):
        answer = client.get(path.format(identity))
        assert answer.status_code == 404, answer.text
        assert len(answer.content) < 5000


CHANGES = [one for one in CALLS if one.method != "GET"]
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": ""},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "{url}"},
]
OURS: list[dict[str, str]] = [
    {},
    {"Origin": "{url}"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "{url}"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("call", CHANGES, ids=lambda call: call.handler)
def test_changes_come_from_no_other_sites_page(client: httpx2.Client, url: str, call: Any) -> None:
    path = call.path.format(id="fleet.nothing")
    for headers, foreign in [*((one, True) for one in FOREIGN), *((one, False) for one in OURS)]:
        told = {name: value.format(url=url) for name, value in headers.items()}
        answer = client.request(call.method, path, headers=told, content="{}")
        assert (answer.status_code == 403) is foreign, (headers, answer.text)
        assert "access-control-allow-origin" not in answer.headers


def test_who_sends_slowly_is_left(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD", 0.3)
    monkeypatch.setattr(asked, "BODY", 0.3)
    begun = time.monotonic()
    at = urlsplit(url)
    head = f"POST /api/agents HTTP/1.1\r\nHost: a\r\n{GOOD}Content-Length: 500\r\n\r\n{{"
    with ExitStack() as stack:
        connections = []
        for sent in (b"", b"GET /healthz HTTP/1.1\r\nHost", head.encode()):
            one = closing(socket.create_connection((at.hostname, at.port), timeout=8))
            connections.append(stack.enter_context(one))
            connections[-1].sendall(sent)
        assert [one.recv(12) for one in connections] == [b"", b"", b"HTTP/1.1 400"]
    assert time.monotonic() - begun < 8


def test_nobody_holds_more_streams_than_their_share(url: str, client: httpx2.Client) -> None:
    with ExitStack() as stack:
        for _ in range(patience.STREAMS):
            stream = stack.enter_context(client.stream("GET", "/api/events"))
            assert stream.status_code == 200
        refused = client.get("/api/events")
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert f"{patience.STREAMS} streams of events" in refused.json()["error"]
        # everything else goes on, and so do others
        assert client.get("/api/agents").status_code == 200
        assert client.head("/api/events").status_code == 200
    for _ in range(100):
        with client.stream("GET", "/api/events") as stream:
            if stream.status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("a stream that was closed still counts")
