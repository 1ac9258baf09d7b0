"""The access log: a line of JSON for each call, written by a thread of its own."""

import logging
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import orjson

from ollama_fleet.router.body import read_body
from ollama_fleet.router.call import Call
from ollama_fleet.router.errors import Refusal
from ollama_fleet.router.framing import Request
from ollama_fleet.router.front import Front

log = logging.getLogger(__name__)

MAX_LINES = 10_000
"""Lines that may wait for a slow reader; those that come then are lost, and counted."""
MAX_TEXT = 256
"""Characters of a name that a client wrote."""
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-|\Z)")

EMPTY: dict[str, Any] = {
    "time": "",
    "client": "",
    "peer": "",
    "method": "",
    "path": "",
    "model": "",
    "resolved": "",
    "server": "",
    "status": 0,
    "reason": "",
    "attempts": 0,
    "decision": "",
    "queueSeconds": 0.0,
    "firstByteSeconds": None,
    "seconds": 0.0,
    "tokensIn": None,
    "tokensOut": None,
    "bytesIn": 0,
    "bytesOut": 0,
    "traceId": "",
}
"""Every line has these keys, in this order; those of a refused request stay as they are here."""

Write = Callable[[bytes], object]


def to_stdout(data: bytes) -> None:
    """Write to standard output, which nothing else of the program uses."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class AccessLog:
    """Takes calls that are over; bodies, headers and keys are in no line."""

    def __init__(self, clock: Callable[[], float], write: Write | None = None) -> None:
        self._clock = clock
        self._write = write or to_stdout
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()
        self.lost = 0

    def over(self, call: Call) -> None:
        """Write of a call that a server was sought for."""
        request, server, decision = call.request, call.server, call.decision
        seconds = call.ended - call.started
        self._put(
            {
                "time": _moment(self._clock() - call.started),
                "client": call.client,
                "peer": call.front.address if call.front is not None else "",
                "method": request.method.decode(),
                "path": call.route.path.decode(),
                "model": call.name[:MAX_TEXT],
                "resolved": call.model[:MAX_TEXT],
                "server": server.name if server is not None else "",
                "status": call.status,
                "reason": call.reason,
                "attempts": call.attempts,
                "decision": decision.reason if decision is not None else "",
                "queueSeconds": round(call.waited, 4),
                "firstByteSeconds": round(call.began - call.started, 4) if call.began else None,
                "seconds": round(seconds, 4),
                "tokensIn": call.tokens_in,
                "tokensOut": call.tokens_out,
                "bytesIn": len(request.body),
                "bytesOut": call.bytes_out,
                "traceId": trace_id(request),
            }
        )

    def refused(self, front: Front, request: Request, refusal: Refusal) -> None:
        """Write of a request that was refused before a server was sought."""
        self._put(
            {
                **EMPTY,
                "time": _moment(0.0),
                "peer": front.address,
                "method": request.method.decode(),
                "path": request.target.partition(b"?")[0].decode("latin-1")[:MAX_TEXT],
                "model": _asked(request)[:MAX_TEXT],
                "status": refusal.status,
                "reason": refusal.reason,
                "bytesIn": len(request.body),
                "traceId": trace_id(request),
            }
        )

    def close(self, seconds: float = 0.0) -> None:
        """End once what waits is written; `seconds` are waited for that."""
        self._lines.put(None)
        self._thread.join(seconds)

    def _put(self, line: dict[str, Any]) -> None:
        if self._lines.qsize() >= MAX_LINES:
            self.lost += 1
            return
        self._lines.put(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _run(self) -> None:
        line = self._lines.get()
        while line is not None:
            lines = [line]
            try:
                while (line := self._lines.get_nowait()) is not None:
                    lines.append(line)
            except Empty:
                pass
            try:
                self._write(b"".join(lines))
            except (OSError, ValueError) as error:  # the latter: it is closed
                log.warning("the access log cannot be written: %s", error)
                self.lost += len(lines)
            if line is not None:
                line = self._lines.get()


def trace_id(request: Request) -> str:
    """The trace that a request belongs to (W3C `traceparent`); empty where none is told."""
    for name, value in request.fields:
        if name == b"traceparent":
            match = _TRACEPARENT.match(value.rstrip())
            return match[1].decode() if match else ""
    return ""


def _asked(request: Request) -> str:
    """The model that a refused request named, if it named one."""
    try:
        return read_body(request.body, may_use_name=True).name if request.body else ""
    except Refusal:
        return ""


def _moment(seconds_ago: float) -> str:
    moment = datetime.fromtimestamp(time.time() - seconds_ago, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
