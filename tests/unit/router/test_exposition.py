"""The text that Prometheus reads, read by Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from ollama_fleet.router.exposition import Family, exposition
from ollama_fleet.router.histogram import Histogram

NASTY = 'a"b\\c\nd\\n'
GAUGE = Family("fleet_load", "gauge", "Load.", ("server",))
SPREAD = Family("fleet_seconds", "histogram", "Seconds.", ("server",))


def test_labels_come_back_as_they_were() -> None:
    text = exposition([(GAUGE, [((NASTY,), 2), (("b",), 0.5)])]).decode()
    (family,) = text_string_to_metric_families(text)
    assert (family.type, family.documentation) == ("gauge", "Load.")
    assert [(one.labels["server"], one.value) for one in family.samples] == [(NASTY, 2), ("b", 0.5)]


def test_buckets_add_up_and_include_their_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    (family,) = text_string_to_metric_families(
        exposition([(SPREAD, [(("a",), histogram)])]).decode()
    )
    told = {one.name.removeprefix("fleet_seconds"): one.value for one in family.samples[-2:]}
    assert told == {"_sum": 12.0, "_count": 4.0}
    buckets = {one.labels["le"]: one.value for one in family.samples[:-2]}
    assert buckets == {"1.0": 2, "2.0": 3, "+Inf": 4}


def test_what_has_counted_nothing_is_left_out() -> None:
    assert exposition([(GAUGE, []), (SPREAD, [])]) == b""
    (family,) = text_string_to_metric_families(
        exposition([(GAUGE, [(("a",), 0)]), (SPREAD, [(("a",), Histogram((1.0,)))])]).decode()
    )
    assert family.name == "fleet_load"
