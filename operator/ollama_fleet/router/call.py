"""One request for a model: what is asked, and in the end what came of it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_fleet.router.choose import Decision
    from ollama_fleet.router.framing import Request
    from ollama_fleet.router.front import Front
    from ollama_fleet.router.routes import Route
    from ollama_fleet.router.snapshot import Server


class Call:
    """Filled in on the way, and shown to whoever counts when it is over.

    `name` is the model as the client wrote it, `model` its lookup key. Moments are seconds on the
    loop's clock: `started` when the request was whole, `sent` when its last server was sent it,
    `began` when its answer began (both 0: never), `ended` when it was over. `status` is what the
    client was answered (0: nothing), `reason` why no server's answer reached it whole (empty where
    one did). `tokens_in` and `tokens_out` are None where the answer did not tell. `client` is the
    name of whose key it came with (empty: without one), `weight` its share against others.
    `waited` are the seconds spent waiting for slots, `position` the place it began to wait at (0:
    not at all, or nobody wants to know), `queued_as` who paid there, `estimate` the tokens paid in
    advance. `conversation` is the key of what stays the same over its turns (None: it does not
    count), `asked` when the last server was chosen, `loads` whether that had it load the model,
    `load_seconds` how long it says that took (0: it does not). `events` are those of a streamed
    answer, counted only where there are quotas. `front` is the connection,
    `bytes_out` are bytes of the answer's body.
    """

    __slots__ = (
        "asked",
        "attempts",
        "began",
        "bytes_out",
        "client",
        "conversation",
        "decision",
        "ended",
        "estimate",
        "events",
        "front",
        "load_seconds",
        "loads",
        "model",
        "name",
        "position",
        "queued_as",
        "reason",
        "request",
        "route",
        "sent",
        "server",
        "started",
        "status",
        "streamed",
        "tokens_in",
        "tokens_out",
        "waited",
        "weight",
    )

    def __init__(
        self, request: "Request", route: "Route", name: str, model: str, started: float
    ) -> None:
        self.request = request
        self.route = route
        self.name = name
        self.model = model
        self.started = started
        self.sent = 0.0
        self.began = 0.0
        self.ended = 0.0
        self.waited = 0.0
        self.client = ""
        self.front: Front | None = None
        self.attempts = 0
        self.conversation: int | None = None
        self.asked = 0.0
        self.loads = False
        self.load_seconds = 0.0
        self.decision: Decision | None = None
        self.server: Server | None = None
        self.status = 0
        self.reason = ""
        self.streamed = False
        self.bytes_out = 0
        self.tokens_in: int | None = None
        self.tokens_out: int | None = None
        self.weight = 1.0
        self.position = 0
        self.queued_as = ""
        self.estimate = 0.0
        self.events = 0
