"""Whatever is asked, and in whatever order, the fleet API answers as its document says."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ollama_fleet.console.calls import CALLS
from ollama_fleet.kube import Object
from tests.component.console.exploring import MODEL, Explorer
from tests.component.console.memory import HOME, console

TIMES = int(os.environ.get("FLEET_API_TIMES", "1"))
"""How much more is asked than every time: `make explore-api` does."""


AGENTS = (f"{HOME}.a-0", f"{HOME}.a-1")


class Ollama(BaseHTTPRequestHandler):
    """A server with one model."""

    def do_GET(self) -> None:
        model = {
            "name": MODEL,
            "model": MODEL,
            "size": 1,
            "digest": "0" * 64,
            "modified_at": "2026-01-02T03:04:05.678+01:00",
        }
        body = json.dumps({"models": [model]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def fleet(address: str) -> Object:
    """Two servers, one of which is offline."""
    server = {
        "name": "a-0",
        "state": "Ready",
        "address": address,
        "memoryTotal": "8Gi",
        "diskFree": "2Gi",
    }
    return {
        "apiVersion": "ollamafleet.dev/v1alpha1",
        "kind": "OllamaNode",
        "metadata": {"name": "a", "namespace": HOME},
        "spec": {"replicas": 1},
        "status": {"servers": [server, server | {"name": "a-1", "state": "Offline"}]},
    }


@pytest.fixture
def explorer(caplog: pytest.LogCaptureFixture) -> Iterator[Explorer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Ollama) as ollama:
        threading.Thread(target=ollama.serve_forever).start()
        with console(fleet(f"http://127.0.0.1:{ollama.server_port}")) as url:
            yield Explorer(url, "good")
        ollama.shutdown()
    assert not [one for one in caplog.records if one.exc_info]


def test_each_call_answers_as_described(explorer: Explorer) -> None:
    explorer.each(10 * TIMES, AGENTS)
    # both what is right and what is wrong was asked
    assert {200, 201, 400, 404, 503} <= {status for _, status in explorer.seen}


def test_calls_after_each_other_answer_as_described(explorer: Explorer) -> None:
    explorer.walk(5 * TIMES, AGENTS)
    answered = {name for name, status in explorer.seen if status < 300}
    # one has no end, and no task fails here
    assert {call.handler for call in CALLS} - answered == {"events", "retry"}
