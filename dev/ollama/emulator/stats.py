"""What the emulator has done since it started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Stats:
    """Plain counters; `aborted` are requests whose client left before the end."""

    requests: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    generating: int = 0
    aborted: int = 0
    aborted_loads: int = 0
    loads: int = 0
    unloads: int = 0
    evictions: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    pulls: int = 0
    pulled_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """All counters by name."""
        names = (name for name in self.__dataclass_fields__ if name != "requests")
        counters = {name: getattr(self, name) for name in names}
        return {"requests": dict(self.requests), "total": self.requests.total(), **counters}
