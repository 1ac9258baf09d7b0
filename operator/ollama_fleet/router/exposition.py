"""Prometheus' text format, written straight from counts: no object per sample."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal

from ollama_fleet.router.histogram import Histogram

Values = tuple[str, ...]
"""What stands in a sample's labels, in the order of its family's."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name as it is served, its kind, what it tells, and its labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: tuple[str, ...] = ()


Served = tuple[Family, Iterable[tuple[Values, float | Histogram]]]


def exposition(families: Iterable[Served]) -> bytes:
    """Version 0.0.4 of the format; a family without samples is left out."""
    return "".join(line for family, samples in families for line in _lines(family, samples)).encode(
        "utf-8", "replace"
    )


def _lines(family: Family, samples: Iterable[tuple[Values, float | Histogram]]) -> Iterator[str]:
    name = family.name
    begun = False
    for values, value in samples:
        if isinstance(value, Histogram) and not any(value.counts):
            continue
        if not begun:
            begun = True
            yield f"# HELP {name} {family.about}\n# TYPE {name} {family.kind}\n"
        labels = ",".join(
            f'{label}="{_escaped(text)}"' for label, text in zip(family.labels, values, strict=True)
        )
        if isinstance(value, Histogram):
            yield from _buckets(name, labels, value)
        else:
            told = f"{{{labels}}}" if labels else ""
            yield f"{name}{told} {float(value)}\n"


def _buckets(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    count = sum(histogram.counts)
    start = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
    below = accumulate(histogram.counts)
    for bound, here in zip(_bounds(histogram.bounds), below, strict=True):
        yield f"{start}{bound}{here}\n"
    told = f"{{{labels}}}" if labels else ""
    yield f"{name}_sum{told} {histogram.total}\n{name}_count{told} {count}\n"


@cache
def _bounds(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f'le="{bound}"}} ' for bound in (*bounds, "+Inf"))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
