"""What pods have asked of the API server: its audit log."""

from __future__ import annotations

import json
from dataclasses import dataclass

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
        self._path = cluster.directory / "logs" / "audit.log"
        self._begin = self._path.stat().st_size if self._path.exists() else 0

    def calls(self) -> list[Call]:
        with self._path.open("rb") as log:
            log.seek(self._begin)
            return [_call(json.loads(line)) for line in log if line.endswith(b"\n")]

    def of(self, user: str) -> list[Call]:
        """The calls of one service account, `namespace:name`."""
        return [call for call in self.calls() if call.user == f"system:serviceaccount:{user}"]


def _call(entry: Object) -> Call:
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
