"""The three conditions every resource reports (Ready, Reconciling, Stalled), and warnings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.result import Note
from ollama_fleet.plan.times import rfc3339


@dataclass(frozen=True)
class Verdict:
    """How a resource stands, in one sentence."""

    reason: Reason
    message: str
    ready: bool = False
    stalled: bool = False
    reconciling: bool = False

    @classmethod
    def good(cls, message: str, reason: Reason = Reason.READY) -> "Verdict":
        """Everything is as wanted."""
        return cls(reason, message, ready=True)

    @classmethod
    def underway(cls, message: str, reason: Reason = Reason.PROGRESSING) -> "Verdict":
        """Not there yet, and getting there by itself."""
        return cls(reason, message, reconciling=True)

    @classmethod
    def stuck(cls, reason: Reason, message: str, ready: bool = False) -> "Verdict":
        """Waits on the user; the message says what to do."""
        return cls(reason, message, ready=ready, stalled=True)


def conditions(
    previous: Iterable[Mapping[str, Any]], verdict: Verdict, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The conditions for ``verdict``; transition times move only when a status flips.

    Conditions of other types stay as they are.
    """
    before = {one["type"]: one for one in previous}
    rest = (Reason.UP_TO_DATE, "")
    told = (verdict.reason, verdict.message)
    made = []
    for kind, holds, (reason, message) in (
        ("Ready", verdict.ready, told),
        ("Reconciling", verdict.reconciling, told if verdict.reconciling else rest),
        ("Stalled", verdict.stalled, told if verdict.stalled else rest),
    ):
        status = "True" if holds else "False"
        same = kind in before and before[kind]["status"] == status
        made.append(
            {
                "type": kind,
                "status": status,
                "reason": str(reason),
                "message": message[:4096],
                "observedGeneration": generation,
                "lastTransitionTime": before[kind]["lastTransitionTime"] if same else rfc3339(now),
            }
        )
    ours = {one["type"] for one in made}
    return made + [dict(one) for one in before.values() if one["type"] not in ours]


@dataclass(frozen=True)
class Warned:
    """Something amiss that keeps nothing from working: an abnormal-true condition of its own.

    It is there while there is a message, and gone otherwise.
    """

    type: str
    reason: Reason
    message: str | None

    def among(
        self, told: Iterable[Mapping[str, Any]], generation: int, now: datetime
    ) -> list[dict[str, Any]]:
        """The conditions ``told``, with this one as it is now."""
        before = {one["type"]: dict(one) for one in told}
        since = before.pop(self.type, {}).get("lastTransitionTime") or rfc3339(now)
        made = list(before.values())
        if self.message is not None:
            made.append(
                {
                    "type": self.type,
                    "status": "True",
                    "reason": str(self.reason),
                    "message": self.message[:4096],
                    "observedGeneration": generation,
                    "lastTransitionTime": since,
                }
            )
        return made

    def notes(self, previous: Iterable[Mapping[str, Any]]) -> tuple[Note, ...]:
        """The Event for its beginning; nothing while it stays, and for its end."""
        if self.message is None or any(one["type"] == self.type for one in previous):
            return ()
        return (Note("Warning", str(self.reason), self.message),)


def transition(previous: Iterable[Mapping[str, Any]], verdict: Verdict) -> tuple[Note, ...]:
    """The Event for a change of the verdict's reason; nothing while it stays."""
    before = {one["type"]: one for one in previous}
    ready = before.get("Ready", {})
    was_stalled = before.get("Stalled", {}).get("status") == "True"
    if ready.get("reason") == str(verdict.reason) and was_stalled == verdict.stalled:
        return ()
    if verdict.stalled:
        return (Note("Warning", str(verdict.reason), verdict.message),)
    if verdict.ready:
        return (Note("Normal", str(verdict.reason), verdict.message),)
    if was_stalled:
        return (Note("Normal", str(verdict.reason), verdict.message),)
    return ()
