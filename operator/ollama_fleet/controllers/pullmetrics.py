"""What Prometheus is told of pulls."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class PullMetrics:
    """Counts over all ModelDistributions, since the operator began."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.bytes = Counter(
            "ollama_fleet_pull_bytes", "Bytes that servers have pulled.", registry=registry
        )
        self.duration = Histogram(
            "ollama_fleet_pull_duration_seconds",
            "How long pulls took, by result (completed, failed, lost with the server, cancelled).",
            ("result",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self.failures = Counter(
            "ollama_fleet_pull_failures",
            "Attempts that failed, by reason; a server that was lost is Unreachable.",
            ("reason",),
            registry=registry,
        )
