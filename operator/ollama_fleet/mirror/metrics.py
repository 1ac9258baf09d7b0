"""The mirror's counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_PREFIX = "ollama_fleet_mirror_"


class Metrics:
    """All of them, each under its own name."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self.upstream_bytes = self._counter(
            "upstream_bytes", "Bytes of blobs from registries.", "registry"
        )
        self.served_bytes = self._counter("served_bytes", "Bytes of blobs sent to clients.")
        self.blobs = self._counter(
            "blob_requests",
            "Blobs asked for: hit, shared (already on its way), miss, or glance (a few bytes).",
            "result",
        )
        self.manifests = self._counter(
            "manifest_requests",
            "Manifests asked for: hit, fetched, or stale where the registry was not to be had.",
            "result",
        )
        self.evictions = self._counter("evictions", "Files removed to make room.")
        self.refusals = self._counter("refusals", "Requests not served, by error code.", "code")
        self.downloads = self._gauge("downloads", "Blobs on their way from registries.")
        self.stored_bytes = self._gauge("stored_bytes", "Bytes in the store.")
        self.limit_bytes = self._gauge("limit_bytes", "Bytes the store may hold.")

    def render(self) -> bytes:
        """The text a scrape is answered with."""
        return generate_latest(self._registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, about, labels, registry=self._registry)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(_PREFIX + name, about, registry=self._registry)
