"""The router's counts as Prometheus metrics, made when they are scraped."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from ollama_fleet.router.accounting import OTHER, Accounting, ModelCounts, ServerCounts
from ollama_fleet.router.admission import Admission
from ollama_fleet.router.breaker import Breaker, BreakerState
from ollama_fleet.router.choose import can_take
from ollama_fleet.router.exposition import Family, Served, Values, exposition
from ollama_fleet.router.histogram import Histogram
from ollama_fleet.router.snapshot import Fleet, Server, Snapshot

_PREFIX = "ollama_fleet_router_"
_AT = ("gen_ai_request_model", "server")

DURATION = Family(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "From the whole request to the end of its answer, of answers with status 200.",
    _AT,
)
FIRST_TOKEN = Family(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "From the whole request to the beginning of its answer, waiting and loading included; of "
    "streamed answers.",
    _AT,
)
PER_TOKEN = Family(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "From the first token to the last, for each token but the first; of streamed answers.",
    _AT,
)
USAGE = Family(
    "gen_ai_client_token_usage",
    "histogram",
    "Tokens of a request, taken in (input) and given out (output), as the server tells them.",
    ("gen_ai_request_model", "gen_ai_token_type", "server"),
)
REQUESTS = Family(
    _PREFIX + "requests_total",
    "counter",
    "Requests that a server answered in full, whatever it answered.",
    ("path", "server", "status"),
)
UNFINISHED = Family(
    _PREFIX + "unfinished_total",
    "counter",
    "Requests that a server was given and did not answer in full; it is the last one tried.",
    ("reason", "server"),
)
REJECTED = Family(
    _PREFIX + "rejected_total",
    "counter",
    "Requests that no server was given.",
    ("reason",),
)
RETRIES = Family(
    _PREFIX + "retries_total",
    "counter",
    "Requests that another server was asked after this one failed.",
    ("reason", "server"),
)
DECISIONS = Family(
    _PREFIX + "decisions_total",
    "counter",
    "How often the server was chosen, and why.",
    ("reason", "server"),
)
IN_FLIGHT = Family(_PREFIX + "in_flight", "gauge", "Requests at a server now.", ("model", "server"))
BREAKER = Family(
    _PREFIX + "breaker_state",
    "gauge",
    "Whether the server is left alone: 0 closed, it gets requests; 1 half open, one may try; "
    "2 open, none.",
    ("server",),
)
MODEL_BREAKER = Family(
    _PREFIX + "model_breaker_state",
    "gauge",
    "The same for a model that failed at a server; absent where it works.",
    ("model", "server"),
)
SERVER_READY = Family(
    _PREFIX + "server_ready", "gauge", "1 where requests may go, else 0.", ("server", "state")
)
WEDGED = Family(
    _PREFIX + "wedged",
    "gauge",
    "1 where a model never answers though all else does; absent elsewhere.",
    ("model", "server"),
)
MODEL_SERVERS = Family(
    _PREFIX + "model_servers",
    "gauge",
    "Servers of each model: Installed, those that have it; Available, those of them that requests "
    "may go to; Resident, those that have it in memory.",
    ("model", "state"),
)
CLIENT_REQUESTS = Family(
    _PREFIX + "client_requests_total",
    "counter",
    "Requests for models by whose key; status 0: the client left.",
    ("client", "status"),
)
CLIENT_TOKENS = Family(
    _PREFIX + "client_tokens_total", "counter", "Tokens by whose key.", ("client", "type")
)
CONNECTIONS = Family(_PREFIX + "connections", "gauge", "Open connections of clients.")
QUEUE_LENGTH = Family(
    _PREFIX + "queue_length", "gauge", "Requests that wait for a slot.", ("model",)
)
QUEUE_WAIT = Family(
    _PREFIX + "queue_wait_seconds", "histogram", "Waits that ended with a slot.", ("model",)
)
LOG_LOST = Family(
    _PREFIX + "access_log_lost_total",
    "counter",
    "Lines of the access log that nobody took in time.",
)

FAMILIES = (
    DURATION,
    FIRST_TOKEN,
    PER_TOKEN,
    USAGE,
    REQUESTS,
    UNFINISHED,
    REJECTED,
    RETRIES,
    DECISIONS,
    IN_FLIGHT,
    BREAKER,
    MODEL_BREAKER,
    SERVER_READY,
    WEDGED,
    MODEL_SERVERS,
    QUEUE_LENGTH,
    QUEUE_WAIT,
    CLIENT_REQUESTS,
    CLIENT_TOKENS,
    CONNECTIONS,
    LOG_LOST,
)
"""Every family of the router's own; docs/reference/metrics.md is made from them."""

Source = Callable[[], Iterable[Served]]


class Metrics:
    """Everything that is told to a scraper.

    `more` are what other parts tell; their families stand in `FAMILIES`, too.
    """

    def __init__(
        self, accounting: Accounting, fleet: Fleet, clock: Callable[[], float], *more: Source
    ) -> None:
        self._accounting = accounting
        self._fleet = fleet
        self._clock = clock
        self._sources: tuple[Source, ...] = (
            self._counted,
            self._standing,
            self._by_client,
            *more,
        )
        self._process = process_registry()

    def render(self) -> bytes:
        """The text a scrape is answered with."""
        snapshot = self._fleet.snapshot
        names = {server.name for server in snapshot.servers}
        self._accounting.forget(names, snapshot.holders.keys() | {OTHER}, self._clock())
        own = b"".join(exposition(source()) for source in self._sources)
        return own + generate_latest(self._process)

    def _counted(self) -> Iterator[Served]:
        counts = self._accounting
        yield DURATION, self._by_model(lambda model: model.duration)
        yield FIRST_TOKEN, self._by_model(lambda model: model.first_token)
        yield PER_TOKEN, self._by_model(lambda model: model.per_token)
        yield USAGE, self._tokens()
        yield (
            REQUESTS,
            (
                ((path.decode(), name, str(status)), count)
                for name, server in counts.servers.items()
                for (path, status), count in server.requests.items()
            ),
        )
        yield UNFINISHED, self._by_reason(lambda server: server.unfinished)
        yield REJECTED, (((reason,), count) for reason, count in counts.rejected.items())
        yield RETRIES, self._by_reason(lambda server: server.retries)
        yield DECISIONS, self._by_reason(lambda server: server.decisions)

    def _by_model(
        self, which: Callable[[ModelCounts], Histogram]
    ) -> Iterator[tuple[Values, Histogram]]:
        for name, server in self._accounting.servers.items():
            for model, counts in server.models.items():
                yield (model, name), which(counts)

    def _tokens(self) -> Iterator[tuple[Values, Histogram]]:
        for name, server in self._accounting.servers.items():
            for model, counts in server.models.items():
                yield (model, "input", name), counts.input_tokens
                yield (model, "output", name), counts.output_tokens

    def _by_client(self) -> Iterator[Served]:
        counts = self._accounting
        yield (
            CLIENT_REQUESTS,
            (
                ((client, str(status)), count)
                for (client, status), count in counts.client_requests.items()
            ),
        )
        yield CLIENT_TOKENS, counts.client_tokens.items()

    def _by_reason(
        self, which: Callable[[ServerCounts], dict[str, int]]
    ) -> Iterator[tuple[Values, int]]:
        for name, server in self._accounting.servers.items():
            for reason, count in which(server).items():
                yield (reason, name), count

    def _standing(self) -> Iterator[Served]:
        servers, now = self._fleet.snapshot.servers, self._clock()

        def state(breaker: Breaker) -> int:
            return int(breaker.state(now))

        yield (
            IN_FLIGHT,
            (
                ((model, server.name), count)
                for server in servers
                for model, count in server.load.models.items()
            ),
        )
        yield BREAKER, (((server.name,), state(server.load.breaker)) for server in servers)
        yield (
            MODEL_BREAKER,
            (
                ((model, server.name), state(breaker))
                for server in servers
                for model, breaker in server.load.faults.items()
            ),
        )
        yield SERVER_READY, (_readiness(server) for server in servers)
        yield (
            WEDGED,
            (((model, server.name), 1) for server in servers for model in server.load.wedged),
        )
        yield MODEL_SERVERS, _places(self._fleet.snapshot, now)


def _readiness(server: Server) -> tuple[Values, int]:
    return (server.name, server.state.value), int(server.state.value == "Ready")


def _places(snapshot: Snapshot, now: float) -> Iterator[tuple[Values, int]]:
    """Counted by server, as there may be thousands of pairs."""
    available, resident = Counter[str](), Counter[str]()
    for server in snapshot.servers:
        offered = server.offered
        resident.update(server.loaded & offered.keys())
        if can_take(server, (), now):
            failing = _failing(server, now)
            available.update(offered.keys() - failing if failing else offered.keys())
    for model, holders in snapshot.holders.items():
        yield (model, "Installed"), len(holders)
        yield (model, "Available"), available[model]
        yield (model, "Resident"), resident[model]


def _failing(server: Server, now: float) -> set[str]:
    """Models that requests are not sent there for."""
    load = server.load
    faults = load.faults.items()
    return {
        *load.wedged,
        *(model for model, fault in faults if fault.state(now) is BreakerState.OPEN),
    }


def queues(admission: Admission) -> Source:
    """What is told of the requests that wait."""

    def told() -> Iterator[Served]:
        lines = admission.lines.items()
        yield QUEUE_LENGTH, (((model,), len(line)) for model, line in lines)
        yield QUEUE_WAIT, (((model,), waits) for model, waits in admission.waits.items())

    return told


def process_registry() -> CollectorRegistry:
    """What every program tells of itself: memory, CPU, files, Python."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
