"""What operators may ask, on a listener of their own: health, readiness, metrics."""

from collections.abc import Callable

from ollama_fleet.router.errors import Api, Refusal
from ollama_fleet.router.framing import Request
from ollama_fleet.router.front import TEXT, Front

_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Operators:
    """The handler of the metrics listener."""

    def __init__(self, ready: Callable[[], str], metrics: Callable[[], bytes]) -> None:
        self._ready = ready
        self._metrics = metrics

    def api_of(self, request: Request) -> Api:
        """Errors are told as Ollama tells them."""
        return Api.OLLAMA

    def admit(self, request: Request) -> None:
        """Refuse all but the three paths; raises `Refusal`."""
        if request.target not in (b"/healthz", b"/readyz", b"/metrics"):
            raise Refusal(404, "here are /healthz, /readyz and /metrics", reason="Path")
        if request.method not in (b"GET", b"HEAD"):
            raise Refusal(405, "405 method not allowed", reason="Method", allow="GET, HEAD")

    def handle(self, front: Front, request: Request) -> None:
        """Answer."""
        if request.target == b"/metrics":
            front.answer(200, self._metrics(), _METRICS_TYPE)
            return
        waiting = self._ready() if request.target == b"/readyz" else ""
        front.answer(503 if waiting else 200, (waiting or "ok").encode() + b"\n", TEXT)
