"""Counts kept while relaying: plain numbers, turned into metrics only when somebody asks."""

from collections import Counter
from collections.abc import Container, Mapping
from typing import Final

from ollama_fleet.router.call import Call
from ollama_fleet.router.histogram import Bounds, Histogram
from ollama_fleet.router.snapshot import Server

# Cold loads take minutes: the buckets go to twenty of them.
# fmt: off
SECONDS: Final[Bounds] = (
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0,
)
# fmt: on
TOKEN_SECONDS: Final[Bounds] = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.5, 1.0, 2.5)
TOKENS: Final[Bounds] = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0)

MAX_PAIRS: Final = 500
"""Models at servers that are counted each by itself; more of them are counted as one, `OTHER`."""
OTHER: Final = "other"
KEPT_SECONDS: Final = 600.0
"""How long the counts of a server that left, or of a model that nobody has any more, are kept:
enough for every scraper to have seen the last of them."""


class ModelCounts:
    """What one model's requests cost at one server."""

    __slots__ = (
        "duration",
        "first_token",
        "input_tokens",
        "output_tokens",
        "per_token",
        "wanted_at",
    )

    def __init__(self, now: float) -> None:
        self.wanted_at = now
        self.duration = Histogram(SECONDS)
        self.first_token = Histogram(SECONDS)
        self.per_token = Histogram(TOKEN_SECONDS)
        self.input_tokens = Histogram(TOKENS)
        self.output_tokens = Histogram(TOKENS)


class ServerCounts:
    """What came of the requests that one server was given.

    `requests` are those answered, by path and status; `decisions` say how often it was chosen, and
    `retries` how often another one was asked after it, `unfinished` are requests that were not
    answered in full: each by reason.
    """

    __slots__ = ("decisions", "models", "requests", "retries", "unfinished", "wanted_at")

    def __init__(self, now: float) -> None:
        self.wanted_at = now
        self.models: dict[str, ModelCounts] = {}
        self.requests: Counter[tuple[bytes, int]] = Counter()
        self.decisions: Counter[str] = Counter()
        self.unfinished: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()


class Accounting:
    """Everything counted since the start, or since a server came."""

    def __init__(self, max_pairs: int = MAX_PAIRS) -> None:
        self.servers: dict[str, ServerCounts] = {}
        self.rejected: Counter[str] = Counter()
        self.client_requests: Counter[tuple[str, int]] = Counter()
        self.client_tokens: Counter[tuple[str, str]] = Counter()
        self._max_pairs = max_pairs
        self._pairs = 0

    @property
    def retries(self) -> Mapping[str, int]:
        """By cause, after whichever server."""
        return sum((counts.retries for counts in self.servers.values()), Counter[str]())

    @property
    def decisions(self) -> Mapping[str, int]:
        """By reason, for whichever server."""
        return sum((counts.decisions for counts in self.servers.values()), Counter[str]())

    def over(self, call: Call) -> None:
        """Count a call that is over."""
        server, reason = call.server, call.reason
        if server is None:
            self.rejected[reason] += 1
            return
        counts = self._at(server, call.ended)
        if reason:
            counts.unfinished[reason] += 1
            return
        counts.requests[call.route.path, call.status] += 1
        if call.status != 200 or call.route.shows:
            return
        model = counts.models.get(call.model) or self._new_model(counts, call)
        seconds, first = call.ended - call.started, call.began - call.started
        model.duration.observe(seconds)
        if call.tokens_in is not None:
            model.input_tokens.observe(call.tokens_in)
        given = call.tokens_out
        if given is not None:
            model.output_tokens.observe(given)
        if call.streamed:
            model.first_token.observe(first)
            if given is not None and given > 1:
                model.per_token.observe((seconds - first) / (given - 1))

    def decided(self, server: Server, reason: str, now: float) -> None:
        """Count that a server was chosen."""
        self._at(server, now).decisions[reason] += 1

    def retried(self, call: Call, cause: str) -> None:
        """Count that another server is asked after the one that the call was at."""
        if call.server is not None:
            self._at(call.server, call.started).retries[cause] += 1

    def forget(self, servers: Container[str], models: Container[str], now: float) -> None:
        """Drop what was counted for others than these, once they have been gone for a while."""
        for name, counts in list(self.servers.items()):
            if name in servers:
                counts.wanted_at = now
            elif now - counts.wanted_at > KEPT_SECONDS:
                del self.servers[name]
                continue
            for key, model in list(counts.models.items()):
                if key in models:
                    model.wanted_at = now
                elif now - model.wanted_at > KEPT_SECONDS:
                    del counts.models[key]
        self._pairs = sum(len(counts.models) for counts in self.servers.values())

    def _at(self, server: Server, now: float) -> ServerCounts:
        name = server.endpoint.name
        counts = self.servers.get(name)
        if counts is None:
            counts = self.servers[name] = ServerCounts(now)
        return counts

    def _new_model(self, counts: ServerCounts, call: Call) -> ModelCounts:
        name = call.model
        if self._pairs >= self._max_pairs:
            name = OTHER
            if name in counts.models:
                return counts.models[name]
        self._pairs += 1
        found = counts.models[name] = ModelCounts(call.ended)
        return found
