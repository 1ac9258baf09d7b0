"""When a failed pull is tried again, and what to do once it is not."""

import hashlib
import re
from datetime import datetime, timedelta

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import Retry
from ollama_fleet.api.quantity import seconds_of

MAX_BACKOFF = timedelta(minutes=30)
JITTER = 0.25
"""The part of a wait that is added to it at most, so that servers do not try again in step."""

_CAUSES = (
    (Reason.DISK_FULL, re.compile(r"no space left on device|disk quota exceeded")),
    (Reason.DIGEST_MISMATCH, re.compile(r"digest mismatch")),
    (Reason.RATE_LIMITED, re.compile(r"\b429\b|too many requests")),
    (Reason.REGISTRY_UNAUTHORIZED, re.compile(r"\b40[13]\b|unauthorized|access denied")),
)
_REMEDIES = {
    Reason.DISK_FULL: "Delete models there or make its store larger; a server whose pulls fail "
    "even then needs a restart",
    Reason.DIGEST_MISMATCH: "Look for a proxy or a mirror on the way that changes what it passes",
    Reason.PULL_STALLED: "See to the network between the server and the registry, or raise "
    "rollout.stallTimeout",
    Reason.RATE_LIMITED: "Lower rollout.maxParallel, or name a registry of your own",
    Reason.REGISTRY_UNAUTHORIZED: "Name a model or a registry that needs no credentials",
}


def cause(message: str) -> Reason:
    """Why a pull failed, from a server's own words."""
    low = message.lower()
    found = (reason for reason, words in _CAUSES if words.search(low))
    return next(found, Reason.PULL_FAILED)


def remedy(reason: Reason) -> str:
    """What to do about pulls that failed for that reason as often as they may."""
    return _REMEDIES.get(reason, "Mend the cause")


def backoff(first: float, failures: int, jitter: float) -> timedelta:
    """The wait after that many failures in a row: doubles from ``first`` seconds, and is longer by
    up to JITTER; ``jitter`` is in [0, 1)."""
    wait = min(timedelta(seconds=first * 2 ** min(max(0, failures - 1), 32)), MAX_BACKOFF)
    return wait * (1 + JITTER * jitter)


def spread(task: str, failures: int) -> float:
    """A number in [0, 1) for a task's wait: chance among tasks, and the same each time it is
    planned."""
    text = f"{task}\n{failures}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def next_try(retry: Retry, task: str, at: datetime, failures: int) -> datetime:
    """When a task is tried again that failed ``at`` that time."""
    return at + backoff(seconds_of(retry.backoff), failures, spread(task, failures))
