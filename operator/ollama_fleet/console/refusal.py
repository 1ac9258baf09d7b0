"""What the fleet API refuses: a status and a sentence that says what to do instead."""

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """An answer other than the one asked for; ``more`` are fields beside its sentence."""

    def __init__(
        self,
        status: int,
        sentence: str,
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.body = {"error": sentence, **(more or {})}
        self.headers = dict(headers or {})


def unknown(kind: str, name: str) -> Refusal:
    """404: there is none, or none that the person may see."""
    return Refusal(404, f"there is no {kind} {name[:300]!r}")
