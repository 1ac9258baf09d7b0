"""Kubernetes quantities: "48Gi", "500m", "2"."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{name: Decimal(1000) ** power for power, name in enumerate("kMGTPE", 1)},
    **{f"{name}i": Decimal(1024) ** power for power, name in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?)([numkMGTPE]|[KMGTPE]i|)")


def parse(text: str) -> Decimal:
    """The number a quantity stands for, in base units; ValueError says what is wrong."""
    found = _QUANTITY.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no quantity; write it like 48Gi, 500m or 2")
    return Decimal(found[1]) * _SUFFIXES[found[2]]


def in_bytes(text: str) -> int:
    """A quantity of memory in bytes."""
    return int(parse(text))
