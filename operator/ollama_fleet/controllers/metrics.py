"""What Prometheus is told."""

from prometheus_client import CollectorRegistry, Gauge, Histogram, PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from ollama_fleet.controllers.loop import Key, Outcome

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """The operator's own metrics; reconcilers add theirs to `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.reconcile_duration = Histogram(
            "ollama_fleet_reconcile_duration_seconds",
            "How long a reconcile took, by kind and result (ok, transient, error).",
            ("kind", "result"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.leader = Gauge(
            "ollama_fleet_leader", "1 while this operator leads.", registry=self.registry
        )
        self.queue = Gauge(
            "ollama_fleet_reconcile_queue",
            "Objects waiting to be reconciled or being reconciled.",
            registry=self.registry,
        )

    def observe(self, key: Key, outcome: Outcome, seconds: float) -> None:
        """Count one reconcile."""
        self.reconcile_duration.labels(key.kind.kind, outcome).observe(seconds)
