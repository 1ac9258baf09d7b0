"""Figures out of two scrapes."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ollama_fleet.router.exposition import Values, exposition
from ollama_fleet.router.histogram import Histogram
from ollama_fleet.router.metrics import (
    BREAKER,
    DECISIONS,
    FAMILIES,
    FIRST_TOKEN,
    IN_FLIGHT,
    QUEUE_LENGTH,
    REJECTED,
    REQUESTS,
    RETRIES,
    SERVER_READY,
    USAGE,
)
from ollama_fleet.traffic.exposition import Scrape, read
from ollama_fleet.traffic.figures import NAMES, Figures, figures, growth, lately, quantile, together

FAMILY = {family.name: family for family in FAMILIES}
OK = ("/api/chat", "a-0", "200")


def scrape(counts: Mapping[Any, Mapping[Values, Any]], started: float = 1.0) -> Scrape:
    """What a replica that counted so much tells, read back."""
    text = exposition((family, samples.items()) for family, samples in counts.items()).decode()
    text += f"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {started}\n"
    return read(text, NAMES)


def waits(*seconds: float) -> Histogram:
    made = Histogram((0.1, 0.5, 1.0))
    for one in seconds:
        made.observe(one)
    return made


def requests(count: float, started: float = 1.0) -> Scrape:
    return scrape({REQUESTS: {OK: count}}, started)


def test_every_sample_is_one_that_routers_have() -> None:
    """A metric that is renamed there would be missing here without a word."""
    names = {name.removesuffix("_bucket").removesuffix("_sum") for name in NAMES}
    assert names - FAMILY.keys() == {"process_start_time_seconds"}


AWKWARD = r"""# HELP a_total of "b" {c}
# TYPE a_total counter
a_total{server="x \" \\ \n y}",b="{"} 2.0
a_total{server="",b=","} 1e3
a_total{server="é"} +Inf
# HELP b nothing
b 1.5 1700000000000
a_total_b 5
c 1
"""


def test_samples_are_read_as_prometheus_reads_them() -> None:
    names = {"a_total", "b", "d"}
    found = read(AWKWARD, names)
    assert found["a_total"][frozenset({("server", 'x " \\ \n y}'), ("b", "{")})] == 2.0
    expected: dict[str, Any] = {name: {} for name in names}
    for family in text_string_to_metric_families(AWKWARD):
        for sample in family.samples:
            if sample.name in names:
                expected[sample.name][frozenset(sample.labels.items())] = sample.value
    assert found == expected


@pytest.mark.parametrize("text", ["a", "a{} x", 'a{b="c} ', "a 1,5"])
def test_what_is_no_sample(text: str) -> None:
    with pytest.raises(ValueError, match=r"sample|float"):
        read(text, {"a"})


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [
        pytest.param({"p": requests(10)}, {"p": requests(30)}, 2.0, id="grows"),
        pytest.param({"p": requests(10)}, {"p": requests(10)}, 0.0, id="rests"),
        pytest.param(
            {"p": requests(10), "q": requests(5)},
            {"p": requests(30), "q": requests(15)},
            3.0,
            id="two replicas",
        ),
        pytest.param({"p": requests(100)}, {"p": requests(20, 2.0)}, 2.0, id="starts anew"),
        pytest.param({"p": requests(5)}, {"p": requests(20, 2.0)}, 2.0, id="and is past it"),
        pytest.param({"p": requests(100)}, {"p": requests(20)}, 2.0, id="a count begins anew"),
        pytest.param({"p": scrape({})}, {"p": requests(20)}, 2.0, id="the first of a count"),
        pytest.param({"p": requests(10)}, {"p": scrape({})}, 0.0, id="a count is forgotten"),
        pytest.param(
            {"p": requests(10), "q": requests(5)}, {"p": requests(30)}, 2.0, id="a replica goes"
        ),
        pytest.param(
            {"p": requests(10)}, {"p": requests(30), "q": requests(500)}, 2.0, id="one appears"
        ),
        pytest.param({}, {"q": requests(500)}, None, id="only new ones"),
        pytest.param({"p": requests(10)}, {}, None, id="none answers"),
    ],
)
def test_rates(before: dict[str, Scrape], after: dict[str, Scrape], rate: float | None) -> None:
    found = figures(before, after, 10.0)
    assert found.requests_per_second == rate
    assert found.tokens_per_second == (None if rate is None else 0.0)
    assert found.first_token_p50_s is None


def test_all_figures_of_a_moment() -> None:
    before = scrape({FIRST_TOKEN: {("m", "a-0"): waits(5.0)}, SERVER_READY: {("a-0", "Ready"): 1}})
    after = scrape(
        {
            FIRST_TOKEN: {("m", "a-0"): waits(5.0, 0.3), ("m", "b-0"): waits(0.3, 0.3, 0.7)},
            USAGE: {("m", "input", "a-0"): waits(50.0), ("m", "output", "a-0"): waits(20.0)},
            REQUESTS: {OK: 3, ("/api/chat", "b-0", "500"): 1},
            REJECTED: {("QueueFull",): 2},
            RETRIES: {("Connect", "b-0"): 1},
            DECISIONS: {("Least", "a-0"): 1, ("Warm", "a-0"): 2, ("Warm", "b-0"): 1},
            IN_FLIGHT: {("m", "a-0"): 2, ("n", "a-0"): 1},
            QUEUE_LENGTH: {("m",): 4, ("n",): 1},
            BREAKER: {("a-0",): 0, ("b-0",): 2},
            SERVER_READY: {("a-0", "Ready"): 1, ("b-0", "Draining"): 0},
        }
    )
    other = scrape(
        {
            IN_FLIGHT: {("m", "a-0"): 1},
            BREAKER: {("a-0",): 1, ("b-0",): 0},
            SERVER_READY: {("a-0", "Ready"): 1, ("b-0", "Ready"): 1},
        }
    )
    now = {"p": after, "q": other}
    found = figures({"p": before, "q": other}, now, 2.0)
    assert asdict(found) == asdict(
        Figures(
            window_s=2.0,
            requests_per_second=2.0,
            tokens_per_second=10.0,
            first_token_p50_s=0.3667,
            first_token_p99_s=0.98,
            in_flight=4,
            queued=5,
            rejected_per_second=1.0,
            retried_per_second=0.5,
            servers=(),
        )
    ) | {
        "servers": (
            {
                "name": "a-0",
                "in_flight": 4,
                "requests_per_second": 1.5,
                "state": "Ready",
                "breaker": "half-open",
                "decisions": (
                    {"reason": "Warm", "per_second": 1.0},
                    {"reason": "Least", "per_second": 0.5},
                ),
            },
            {
                "name": "b-0",
                "in_flight": 0,
                "requests_per_second": 0.5,
                "state": "Draining",
                "breaker": "open",
                "decisions": ({"reason": "Warm", "per_second": 0.5},),
            },
        )
    }


def test_a_replica_that_appears_counts_from_then_on() -> None:
    """Of a window of several scrapes, the parts that saw it."""
    scrapes = [
        {"p": requests(0)},
        {"p": requests(10), "q": requests(500)},
        {"p": requests(10), "q": requests(510)},
        {"q": requests(530)},
    ]
    steps = [growth(*pair, 2.0) for pair in pairwise(scrapes)]
    assert [step.rate("ollama_fleet_router_requests_total") for step in steps] == [5.0, 5.0, 10.0]
    found = lately(together(steps), scrapes[-1])
    assert (found.window_s, found.requests_per_second) == (6.0, 6.6667)
    assert lately(together([]), {}).requests_per_second is None


@pytest.mark.parametrize(
    ("wanted", "buckets", "value"),
    [
        (0.5, {}, None),
        (0.5, {1.0: 0.0, float("inf"): 0.0}, None),
        (0.5, {1.0: 4.0}, None),
        (0.5, {1.0: 4.0, 2.0: 4.0, float("inf"): 4.0}, 0.5),
        (0.5, {1.0: 0.0, 2.0: 4.0, float("inf"): 4.0}, 1.5),
        (0.75, {1.0: 2.0, 2.0: 4.0, float("inf"): 4.0}, 1.5),
        (0.99, {1.0: 2.0, 2.0: 3.0, float("inf"): 4.0}, 2.0),
        (1.0, {1.0: 2.0, 2.0: 4.0, float("inf"): 4.0}, 2.0),
        (0.0, {1.0: 2.0, 2.0: 4.0, float("inf"): 4.0}, 0.0),
    ],
)
def test_quantiles_are_those_of_prometheus(
    wanted: float, buckets: dict[float, float], value: float | None
) -> None:
    assert quantile(wanted, buckets) == value
