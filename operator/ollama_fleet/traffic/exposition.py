"""A router's metrics as it serves them: text in, counts out.

`prometheus_client` has a reader too. A large router tells tens of thousands of samples, for which
that one takes a second, and this one a tenth of it.
"""

import re
from collections.abc import Collection, Mapping

Labels = frozenset[tuple[str, str]]
"""Names and values of a sample's labels."""
Scrape = Mapping[str, Mapping[Labels, float]]
"""One replica's samples, by the name that each line begins with."""

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?[ \t]+(\S+)", re.ASCII)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


def read(text: str, names: Collection[str]) -> Scrape:
    """The samples of these names alone, out of version 0.0.4 of Prometheus' text format; raises
    ValueError for a line of them that is no sample."""
    found: dict[str, dict[Labels, float]] = {name: {} for name in names}
    for line in text.split("\n"):
        name = line.partition("{")[0].partition(" ")[0]
        if (samples := found.get(name)) is None:
            continue
        parts = _LINE.match(line)
        if parts is None:
            raise ValueError(f"no sample: {line[:200]!r}")
        labels = _LABEL.findall(parts[2] or "")
        if "\\" in line:
            labels = [(label, _ESCAPE.sub(_meant, value)) for label, value in labels]
        samples[frozenset(labels)] = float(parts[3])
    return found


def _meant(escape: re.Match[str]) -> str:
    return "\n" if escape[1] == "n" else escape[1]
