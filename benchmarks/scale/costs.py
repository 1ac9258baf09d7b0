"""What a program costs: its calls to the API server by the audit log, its CPU and memory."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 2**20


@dataclass(frozen=True)
class Calls:
    """Calls to the API server, without those for the leader's Lease."""

    total: int
    writes: int
    lease: int
    last: float
    """When the last one was, in seconds since the epoch."""
    last_write: float
    by_verb: Counter[str]


class Audit:
    """What one account has asked of the API server."""

    def __init__(self, log: Path, account: str) -> None:
        self._log = log
        self._user = f"system:serviceaccount:{account}"

    def now(self) -> int:
        """A place in the log, to count from."""
        return self._log.stat().st_size

    def since(self, place: int) -> Calls:
        """The calls from a place on."""
        verbs: Counter[str] = Counter()
        lease, last, last_write, writes = 0, 0.0, 0.0, 0
        with self._log.open("rb") as lines:
            lines.seek(place)
            for line in lines:
                if not line.endswith(b"\n") or self._user.encode() not in line:
                    continue
                entry = json.loads(line)
                if entry["user"]["username"] != self._user:
                    continue
                resource = (entry.get("objectRef") or {}).get("resource", "")
                if resource == "leases":
                    lease += 1
                    continue
                at = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
                verbs[f"{entry['verb']} {resource}"] += 1
                last = max(last, at)
                if entry["verb"] not in ("get", "list", "watch"):
                    writes += 1
                    last_write = max(last_write, at)
        return Calls(verbs.total(), writes, lease, last, last_write, verbs)


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, its dead children's left out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss(pid: int) -> float:
    """MiB of memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / _MIB
