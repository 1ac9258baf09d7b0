"""The router's counts as Prometheus metrics, made when they are scraped."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from ollama_fleet.router.accounting import Accounting, Histogram
from ollama_fleet.router.admission import Admission
from ollama_fleet.router.snapshot import Fleet

_PREFIX = "ollama_fleet_router_"


class Metrics:
    """A collector over the counts; also renders them."""

    def __init__(
        self,
        accounting: Accounting,
        fleet: Fleet,
        clock: Callable[[], float],
        connections: Callable[[], int],
        admission: Admission,
    ) -> None:
        self._accounting = accounting
        self._fleet = fleet
        self._clock = clock
        self._connections = connections
        self._admission = admission
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def render(self) -> bytes:
        """The text a scrape is answered with."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every metric family."""
        yield from self._by_model()
        yield from self._by_server()
        yield from self._queues()
        counts = self._accounting
        yield _counter("retries", "Requests sent to another server.", "reason", counts.retries)
        yield _counter("decisions", "How servers were chosen.", "reason", counts.decisions)
        yield _counter(
            "rejected", "Requests not answered by a server in full.", "reason", counts.rejected
        )
        requests = CounterMetricFamily(
            _PREFIX + "requests", "Requests a server answered.", labels=("path", "status")
        )
        for (path, status), count in counts.requests.items():
            requests.add_metric((path.decode(), str(status)), count)
        yield requests
        yield from self._by_client()
        yield GaugeMetricFamily(
            _PREFIX + "connections", "Open client connections.", value=self._connections()
        )

    def _by_model(self) -> Iterator[Metric]:
        duration = _histogram("gen_ai_server_request_duration_seconds", "Whole requests.")
        first = _histogram("gen_ai_server_time_to_first_token_seconds", "Streamed requests.")
        per_token = _histogram(
            "gen_ai_server_time_per_output_token_seconds", "Streamed requests, after the first."
        )
        usage = HistogramMetricFamily(
            "gen_ai_client_token_usage",
            "Tokens per request.",
            labels=("gen_ai_request_model", "gen_ai_token_type"),
        )
        for model, counts in self._accounting.models.items():
            _add(duration, (model,), counts.duration)
            _add(first, (model,), counts.first_token)
            _add(per_token, (model,), counts.per_token)
            _add(usage, (model, "input"), counts.input_tokens)
            _add(usage, (model, "output"), counts.output_tokens)
        yield from (duration, first, per_token, usage)

    def _queues(self) -> Iterator[Metric]:
        length = GaugeMetricFamily(
            _PREFIX + "queue_length", "Requests that wait for a slot.", labels=("model",)
        )
        for model, line in self._admission.lines.items():
            length.add_metric((model,), len(line))
        wait = HistogramMetricFamily(
            _PREFIX + "queue_wait_seconds", "Waits that ended with a slot.", labels=("model",)
        )
        for model, waits in self._admission.waits.items():
            _add(wait, (model,), waits)
        yield from (length, wait)

    def _by_client(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            _PREFIX + "client_requests",
            "Requests for models by whose key; status 0: the client left.",
            labels=("client", "status"),
        )
        for (client, status), count in self._accounting.client_requests.items():
            requests.add_metric((client, str(status)), count)
        tokens = CounterMetricFamily(
            _PREFIX + "client_tokens", "Tokens by whose key.", labels=("client", "type")
        )
        for key, count in self._accounting.client_tokens.items():
            tokens.add_metric(key, count)
        yield from (requests, tokens)

    def _by_server(self) -> Iterator[Metric]:
        in_flight = GaugeMetricFamily(
            _PREFIX + "in_flight", "Requests at a server.", labels=("server", "model")
        )
        breaker = GaugeMetricFamily(
            _PREFIX + "breaker_state", "0 closed, 1 half open, 2 open.", labels=("server",)
        )
        ready = GaugeMetricFamily(
            _PREFIX + "server_ready", "1 where requests may go.", labels=("server", "state")
        )
        now = self._clock()
        for server in self._fleet.snapshot.servers:
            for model, count in server.load.models.items():
                in_flight.add_metric((server.name, model), count)
            breaker.add_metric((server.name,), int(server.load.breaker.state(now)))
            ready.add_metric((server.name, server.state.value), server.state.value == "Ready")
        yield from (in_flight, breaker, ready)


def _histogram(name: str, about: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, about, labels=("gen_ai_request_model",))


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    buckets: list[tuple[str, float]] = []
    count = 0
    for bound, here in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        count += here
        buckets.append((str(bound), count))
    family.add_metric(labels, buckets, histogram.total)


def _counter(name: str, about: str, label: str, counts: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(_PREFIX + name, about, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
