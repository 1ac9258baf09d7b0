"""Servers that do not answer with a model any more: only a restart mends them.

Routers find them; the operator replaces their pods as it replaces outdated ones, and waits longer
each time where that does not last. How often it was is kept in status.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.conditions import Verdict
from ollama_fleet.plan.result import Note
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.times import elapsed, parsed, rfc3339
from ollama_fleet.plan.troubles import Trouble

PAUSE, LONGEST = timedelta(minutes=5), timedelta(hours=1)
"""Between the first restart of a server and its second, and the most between any two."""
FORGIVEN = timedelta(hours=6)
"""After that earlier restarts count no more."""

_UNDER_WAY = timedelta(minutes=1)
_SHOWN = 64


@dataclass(frozen=True)
class Restarts:
    """How often a server was replaced for this, and when it last was."""

    count: int = 0
    last: datetime | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any], now: datetime) -> "Restarts":
        """From a server's last status."""
        last = parsed(told.get("wedgedRestartedAt"))
        if last is None or elapsed(last, now) >= FORGIVEN:
            return cls()
        return cls(int(told.get("wedgedRestarts") or 0), last)

    @property
    def next(self) -> datetime | None:
        """Before that it is not replaced again; None: at any time."""
        if self.last is None or not self.count:
            return None
        pause: timedelta = PAUSE * 2 ** min(self.count - 1, 16)
        return self.last + min(LONGEST, pause)


@dataclass(frozen=True)
class Wedges:
    """By server: the models it does not answer with, and how often that was mended."""

    now: datetime
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    restarts: Mapping[str, Restarts] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        servers: Iterable[Server],
        told: Mapping[str, tuple[str, ...]],
        before: Mapping[str, Mapping[str, Any]],
        now: datetime,
    ) -> "Wedges":
        """``told`` is what routers say, by URL; ``before`` the last status, by server."""
        known = list(servers)
        return cls(
            now,
            {one.name: told[one.url] for one in known if one.url is not None and told.get(one.url)},
            {one.name: Restarts.of(before.get(one.name, {}), now) for one in known},
        )

    @property
    def due(self) -> frozenset[str]:
        """The servers that may be replaced for it now."""
        return frozenset(name for name in self.models if not self._waits(name))

    @property
    def next(self) -> float | None:
        """Seconds until another one may be; None where none is waited for."""
        edges = [self.restarts[name].next for name in self.models if self._waits(name)]
        return min(
            ((edge - self.now).total_seconds() for edge in edges if edge is not None), default=None
        )

    def _waits(self, name: str) -> bool:
        edge = self.restarts[name].next
        return edge is not None and self.now < edge

    def restarted(self, names: Collection[str]) -> "Wedges":
        """With these replaced now."""
        counted = {
            name: Restarts(one.count + 1, self.now) if name in names else one
            for name, one in self.restarts.items()
        }
        return replace(self, restarts=counted)

    def told_of(self, name: str) -> dict[str, Any]:
        """The fields of a server's status."""
        found = self.restarts.get(name, Restarts())
        return {
            "wedged": sorted(self.models.get(name, ()))[:_SHOWN],
            "wedged_restarts": found.count or None,
            "wedged_restarted_at": rfc3339(found.last) if found.last else None,
        }

    def message(self, server: Server) -> str | None:
        """What a server's status says of it."""
        models = self.models.get(server.name)
        if models is None:
            return None
        fact = f"it does not answer with {', '.join(sorted(models))} any more, and all else works"
        if server.external:
            return (
                f"{fact}. Restart Ollama there (systemctl restart ollama); it runs elsewhere, so "
                "that the operator cannot."
            )
        found = self.restarts[server.name]
        going = found.last is not None and elapsed(found.last, self.now) < _UNDER_WAY
        if server.pod is not None and server.pod["metadata"].get("deletionTimestamp"):
            going = True
        if going or not self._waits(server.name):
            return f"{fact}: its pod is replaced once its other requests are done"
        times = "once" if found.count == 1 else f"{found.count} times"
        assert found.next is not None
        return (
            f"{fact}: its pod was replaced {times} for that, and is again at "
            f"{rfc3339(found.next)}. See its log, and try another spec.image.tag."
        )

    def explained(self, servers: Iterable[Server]) -> list[Server]:
        """The servers; external ones with the trouble, which is for their owner to mend."""
        return [
            replace(one, trouble=Trouble(Reason.WEDGED, why))
            if one.external and one.trouble is None and (why := self.message(one)) is not None
            else one
            for one in servers
        ]

    def verdict(self, servers: Iterable[Server], summary: str) -> Verdict | None:
        """How that stands, for servers that the operator mends by itself."""
        for one in servers:
            if not one.external and (why := self.message(one)) is not None:
                return Verdict.underway(f"{summary}; {one.name}: {why}", Reason.WEDGED)
        return None

    def notes(self, servers: Iterable[Server], names: Collection[str]) -> tuple[Note, ...]:
        """The Events of those that are replaced now."""
        return tuple(
            Note("Warning", str(Reason.WEDGED), f"{one.name}: {self.message(one)}")
            for one in servers
            if one.name in names
        )
