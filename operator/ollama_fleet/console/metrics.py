"""The console's counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_PREFIX = "ollama_fleet_console_"


class Metrics:
    """All of them, each under its own name."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            _PREFIX + "requests",
            "Calls of the fleet API, by call and status.",
            ("call", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            _PREFIX + "request_duration_seconds",
            "Time a call took, streams of events aside.",
            ("call",),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.streams = Gauge(
            _PREFIX + "event_streams", "Streams of events that are open.", registry=self.registry
        )

    def render(self) -> bytes:
        """The text a scrape is answered with."""
        return generate_latest(self.registry)
