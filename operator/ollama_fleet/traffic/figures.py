"""What happened at a router: its replicas are scraped now and then, and what their counters grew by
in between is added up."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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

_KEPT: Mapping[str, tuple[str, ...]] = {
    _REQUESTS: ("server",),
    _REJECTED: (),
    _RETRIES: (),
    _DECISIONS: ("server", "reason"),
    _TOKENS: ("gen_ai_token_type",),
    _FIRST_TOKEN: ("le",),
}
"""Counters, and by which of their labels they are told apart."""
NAMES = frozenset((*_KEPT, _IN_FLIGHT, _QUEUED, _READY, _BREAKER, _STARTED))
"""The samples that figures are made of; `exposition.read` needs no others."""
_MOST = 2.0**63
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
    state: str
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


@dataclass(frozen=True)
class Growth:
    """By how much a router's counters have grown in some seconds, by name and the labels kept."""

    seconds: float
    counts: Mapping[tuple[str, ...], float]
    known: bool
    """Whether any replica was seen both times."""

    def each(self, name: str, *labels: str) -> Iterator[tuple[tuple[str, ...], float]]:
        """What else tells a counter's samples apart, beside these labels, and how they grew."""
        start = (name, *labels)
        for key, count in self.counts.items():
            if key[: len(start)] == start:
                yield key[len(start) :], count

    def rate(self, name: str, *labels: str) -> float | None:
        """How much a second."""
        if not self.known:
            return None
        return _rounded(sum(count for _, count in self.each(name, *labels)) / self.seconds)


def growth(before: Replicas, after: Replicas, seconds: float) -> Growth:
    """What the replicas counted in the ``seconds`` between two scrapes.

    A replica that only one of them saw has no part in it: what it counted before it was seen may be
    of any age. One that started anew counts from nothing.
    """
    counts: dict[tuple[str, ...], float] = defaultdict(float)
    both = before.keys() & after.keys()
    for replica in both:
        was, now = before[replica], after[replica]
        if was.get(_STARTED) != now.get(_STARTED):
            was = {}
        for name, kept in _KEPT.items():
            earlier = was.get(name, {})
            for labels, value in _counts(now, name):
                told, more = dict(labels), value - earlier.get(labels, 0.0)
                key = (name, *(told.get(label, "") for label in kept))
                # a count that fell began anew
                counts[key] += more if more >= 0 else value
    return Growth(seconds, counts, bool(both))


def together(steps: Iterable[Growth]) -> Growth:
    """Several growths, one after the other, as one."""
    counts: dict[tuple[str, ...], float] = defaultdict(float)
    seconds, known = 0.0, False
    for step in steps:
        seconds += step.seconds
        known = known or step.known
        for key, more in step.counts.items():
            counts[key] += more
    return Growth(seconds, counts, known)


def figures(before: Replicas, after: Replicas, seconds: float) -> Figures:
    """What happened in the ``seconds`` between two scrapes, and how it stands after them."""
    return lately(growth(before, after, seconds), after)


def lately(grown: Growth, now: Replicas) -> Figures:
    """What has happened, and how it stands now."""
    first = {_bound(bound): count for (bound,), count in grown.each(_FIRST_TOKEN)}
    return Figures(
        window_s=round(grown.seconds, 1),
        requests_per_second=grown.rate(_REQUESTS),
        tokens_per_second=grown.rate(_TOKENS, "output"),
        first_token_p50_s=quantile(0.5, first),
        first_token_p99_s=quantile(0.99, first),
        in_flight=_sum(now, _IN_FLIGHT),
        queued=_sum(now, _QUEUED),
        rejected_per_second=grown.rate(_REJECTED),
        retried_per_second=grown.rate(_RETRIES),
        servers=_servers(grown, now),
    )


def _servers(grown: Growth, now: Replicas) -> tuple[ServerFigures, ...]:
    states: dict[str, list[str]] = defaultdict(list)
    for labels, _ in _samples(now, _READY):
        states[labels.get("server", "")].append(labels.get("state", ""))
    in_flight: dict[str, int] = defaultdict(int)
    for labels, value in _samples(now, _IN_FLIGHT):
        in_flight[labels.get("server", "")] += int(value)
    breakers: dict[str, int] = defaultdict(int)
    for labels, value in _samples(now, _BREAKER):
        server = labels.get("server", "")
        breakers[server] = min(max(breakers[server], int(value)), len(_BREAKERS) - 1)
    return tuple(
        ServerFigures(
            name=name,
            in_flight=in_flight[name],
            requests_per_second=grown.rate(_REQUESTS, name),
            state=min(states[name], key=lambda state: state == "Ready"),
            breaker=_BREAKERS[breakers[name]],
            decisions=_decisions(grown, name),
        )
        for name in sorted(states)
    )


def _decisions(grown: Growth, server: str) -> tuple[Decision, ...]:
    chosen = sorted(grown.each(_DECISIONS, server), key=lambda one: (-one[1], one[0]))
    per_second = ((reason, more / grown.seconds) for (reason,), more in chosen if more)
    return tuple(Decision(reason, _rounded(rate)) for reason, rate in per_second)


def _samples(now: Replicas, name: str) -> Iterator[tuple[dict[str, str], float]]:
    for scrape in now.values():
        for labels, value in _counts(scrape, name):
            yield dict(labels), value


def _counts(scrape: Scrape, name: str) -> Iterator[tuple[Labels, float]]:
    """The samples that can be counts; a router tells no others."""
    for labels, value in scrape.get(name, {}).items():
        if 0 <= value < _MOST:
            yield labels, value


def _sum(now: Replicas, name: str) -> int:
    return int(sum(value for _, value in _samples(now, name)))


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


def _bound(text: str) -> float:
    """A bucket's bound; what is none is taken for the last."""
    try:
        bound = float(text)
    except ValueError:
        return float("inf")
    return bound if bound >= 0 else float("inf")


def _rounded(value: float) -> float:
    return round(value, 4)
