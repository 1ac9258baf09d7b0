"""What pods have asked of the API server, and what roles were written: its audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import Cluster
from ollama_fleet.kube.kinds import Object

_READS = ("get", "list", "watch")


@dataclass(frozen=True)
class Call:
    """A call to the API server, from its audit log."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    at: str
    """RFC 3339 with microseconds: sorts as text."""

    @property
    def writes(self) -> bool:
        return self.verb not in _READS


class Audit:
    """What pods have asked of the API server, from the moment it is made."""

    def __init__(self, cluster: Cluster) -> None:
        self._path = self.log(cluster)
        self._begin = self._path.stat().st_size if self._path.exists() else 0

    @staticmethod
    def log(cluster: Cluster) -> Path:
        """Where a cluster's lies."""
        return cluster.directory / "logs" / "audit.log"

    def calls(self) -> list[Call]:
        return [read_call(entry) for entry in entries(self._path, self._begin)]

    def of(self, user: str) -> list[Call]:
        """The calls of one service account, `namespace:name`."""
        return [call for call in self.calls() if call.user == f"system:serviceaccount:{user}"]


def entries(log: Path, begin: int = 0) -> Iterator[Object]:
    """What an audit log says from a byte on, but for a line half written."""
    with log.open("rb") as lines:
        lines.seek(begin)
        yield from (json.loads(line) for line in lines if line.endswith(b"\n"))


def read_call(entry: Object) -> Call:
    """A call as an entry of the log tells it."""
    target: Object = entry.get("objectRef") or {}
    sub = f"/{target['subresource']}" if "subresource" in target else ""
    return Call(
        entry["user"]["username"],
        entry["verb"],
        str(target.get("resource", entry["requestURI"])) + sub,
        target.get("namespace", ""),
        target.get("name", ""),
        entry["responseStatus"]["code"],
        entry["stageTimestamp"],
    )
