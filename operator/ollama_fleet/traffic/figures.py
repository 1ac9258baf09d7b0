"""What happened at a router between two scrapes of its replicas."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ollama_fleet.traffic.exposition import Labels, Scrape

Breaker = Literal["closed", "half-open", "open"]
Replicas = Mapping[str, Scrape]
"""What each replica told, by anything that tells replicas apart, such as the pod's name."""

_ROUTER = "ollama_fleet_router_"
_REQUESTS = _ROUTER + "requests_total"
_REJECTED = _ROUTER + "rejected_total"
_RETRIES = _ROUTER + "retries_total"
_DECISIONS = _ROUTER + "decisions_total"
_IN_FLIGHT = _ROUTER + "in_flight"
_QUEUED = _ROUTER + "queue_length"
_READY = _ROUTER + "server_ready"
_BREAKER = _ROUTER + "breaker_state"
_TOKENS = "gen_ai_client_token_usage_sum"
_FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds_bucket"  # noqa: S105 - a metric
_STARTED = "process_start_time_seconds"

NAMES = frozenset(
    (
        _REQUESTS,
        _REJECTED,
        _RETRIES,
        _DECISIONS,
        _IN_FLIGHT,
        _QUEUED,
        _READY,
        _BREAKER,
        _TOKENS,
        _FIRST_TOKEN,
        _STARTED,
    )
)
"""The samples that figures are made of; `exposition.read` needs no others."""
_BY_SERVER = frozenset((_REQUESTS, _DECISIONS, _IN_FLIGHT, _READY, _BREAKER))
_BREAKERS: tuple[Breaker, ...] = ("closed", "half-open", "open")


@dataclass(frozen=True)
class Decision:
    """How often a server was chosen for a reason."""

    reason: str
    per_second: float


@dataclass(frozen=True)
class ServerFigures:
    """What happened at one server, all replicas together; where they differ, the worst."""

    name: str
    in_flight: int
    requests_per_second: float | None
    state: str | None
    breaker: Breaker
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class Figures:
    """What happened at a router. Rates are null where no replica was seen twice, quantiles where
    no answer began."""

    window_s: float
    requests_per_second: float | None
    tokens_per_second: float | None
    first_token_p50_s: float | None
    first_token_p99_s: float | None
    in_flight: int
    queued: int
    rejected_per_second: float | None
    retried_per_second: float | None
    servers: tuple[ServerFigures, ...]


def figures(before: Replicas, after: Replicas, seconds: float) -> Figures:
    """What the replicas counted in the ``seconds`` between two scrapes.

    A replica that only one of them saw has no part in the rates: what it counted before it was
    seen may be of any age. One that started anew counts from nothing.
    """
    span = _Span(before, after, seconds)
    first = span.buckets(_FIRST_TOKEN)
    return Figures(
        window_s=round(seconds, 3),
        requests_per_second=span.rate(_REQUESTS),
        tokens_per_second=span.rate(_TOKENS, gen_ai_token_type="output"),  # noqa: S106
        first_token_p50_s=quantile(0.5, first),
        first_token_p99_s=quantile(0.99, first),
        in_flight=span.now(_IN_FLIGHT),
        queued=span.now(_QUEUED),
        rejected_per_second=span.rate(_REJECTED),
        retried_per_second=span.rate(_RETRIES),
        servers=tuple(_server(span, name) for name in sorted(span.servers())),
    )


def _server(span: "_Span", name: str) -> ServerFigures:
    chosen: dict[str, float] = defaultdict(float)
    for labels, more in span.increases(_DECISIONS, server=name):
        chosen[dict(labels).get("reason", "")] += more
    states = [dict(labels).get("state") for labels, _ in span.samples(_READY, server=name)]
    breakers = [int(value) for _, value in span.samples(_BREAKER, server=name)]
    return ServerFigures(
        name=name,
        in_flight=span.now(_IN_FLIGHT, server=name),
        requests_per_second=span.rate(_REQUESTS, server=name),
        state=min(states, key=lambda state: state == "Ready", default=None),
        breaker=_BREAKERS[min(max(breakers, default=0), 2)],
        decisions=tuple(
            Decision(reason, _rounded(count / span.seconds))
            for reason, count in sorted(chosen.items(), key=lambda pair: (-pair[1], pair[0]))
            if count
        ),
    )


class _Span:
    """Two scrapes, sorted by the server that samples are about."""

    def __init__(self, before: Replicas, after: Replicas, seconds: float) -> None:
        self.seconds = seconds
        self._now: dict[tuple[str, str | None], list[tuple[Labels, float]]] = defaultdict(list)
        self._more: dict[tuple[str, str | None], list[tuple[Labels, float]]] = defaultdict(list)
        self._known = bool(before.keys() & after.keys())
        for replica, scrape in after.items():
            was = before.get(replica)
            if was is not None and was.get(_STARTED) != scrape.get(_STARTED):
                was = {}
            for name, samples in scrape.items():
                earlier = None if was is None else was.get(name, {})
                for labels, value in samples.items():
                    grown = None if earlier is None else value - earlier.get(labels, 0.0)
                    for about in (None, _about(labels)) if name in _BY_SERVER else (None,):
                        self._now[name, about].append((labels, value))
                        if grown is not None:
                            # a count that fell began anew
                            increase = (labels, grown if grown >= 0 else value)
                            self._more[name, about].append(increase)

    def servers(self) -> set[str]:
        """Every server that is known now."""
        return {_about(labels) for labels, _ in self.samples(_READY)}

    def samples(self, name: str, server: str | None = None) -> list[tuple[Labels, float]]:
        """What is told now."""
        return self._now.get((name, server), [])

    def increases(self, name: str, server: str | None = None) -> list[tuple[Labels, float]]:
        """By how much counters have grown."""
        return self._more.get((name, server), [])

    def now(self, name: str, server: str | None = None) -> int:
        """A gauge, summed up."""
        return int(sum(value for _, value in self.samples(name, server)))

    def rate(self, name: str, server: str | None = None, **wanted: str) -> float | None:
        """A counter's growth a second, summed up over the samples with these labels."""
        if not self._known:
            return None
        grown = (
            more for labels, more in self.increases(name, server) if labels >= set(wanted.items())
        )
        return _rounded(sum(grown) / self.seconds)

    def buckets(self, name: str) -> dict[float, float]:
        """A histogram's growth, summed up: counts at most so large, by bound."""
        found: dict[float, float] = defaultdict(float)
        for labels, more in self.increases(name):
            found[float(dict(labels).get("le", "nan"))] += more
        return dict(found)


def _about(labels: Labels) -> str:
    return dict(labels).get("server", "")


def quantile(wanted: float, buckets: Mapping[float, float]) -> float | None:
    """A quantile (0 to 1) of a histogram with counts at most so large by bound, the last infinite,
    as Prometheus' histogram_quantile works it out; None where nothing was counted."""
    bounds = sorted(buckets.items())
    if not bounds or bounds[-1][0] != float("inf") or bounds[-1][1] <= 0:
        return None
    rank = wanted * bounds[-1][1]
    for (low, below), (high, count) in pairwise([(0.0, 0.0), *bounds]):
        if count < rank:
            continue
        if high == float("inf"):
            return low
        return _rounded(low + (high - low) * (rank - below) / (count - below or 1.0))
    return None


def _rounded(value: float) -> float:
    return round(value, 4)
