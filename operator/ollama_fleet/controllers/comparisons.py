"""When what is installed is to be compared with the registry."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.kube import Object
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.syncs import due
from ollama_fleet.plan.tasks import Failure


@dataclass(frozen=True)
class Call:
    """A comparison is called for, with what the registry has said ``since`` then."""

    since: datetime
    scheduled: bool = False


@dataclass(frozen=True)
class _Met:
    generation: int
    servers: frozenset[str]
    call: Call | None


class Comparisons:
    """The times of schedules that have passed, and what pullPolicy Always has been done for: the
    spec as it is, and the servers there are."""

    def __init__(self) -> None:
        self._met: dict[str, _Met] = {}

    def call(
        self,
        owner: str,
        wanted: Object,
        spec: ModelDistributionSpec,
        targeted: Iterable[Server],
        now: datetime,
    ) -> Call | None:
        """Whether a comparison is called for. All servers are new to an operator that has just
        started."""
        always = self._always(owner, wanted, spec, targeted, now)
        time = due(spec, wanted.get("status") or {}, now)
        if time is None:
            return always
        return Call(time if always is None else max(time, always.since), scheduled=True)

    def _always(
        self,
        owner: str,
        wanted: Object,
        spec: ModelDistributionSpec,
        targeted: Iterable[Server],
        now: datetime,
    ) -> Call | None:
        if spec.pull_policy != "Always":
            self.forget(owner)
            return None
        generation = wanted["metadata"].get("generation", 1)
        there = frozenset(server.name for server in targeted if server.reachable)
        met = self._met.get(owner)
        if met is None or met.generation != generation:
            met = self._met[owner] = _Met(generation, there, Call(now))
        elif not there <= met.servers:
            met = self._met[owner] = _Met(generation, there | met.servers, Call(now))
        return met.call

    def done(self, owner: str) -> None:
        """They have been compared."""
        if owner in self._met:
            self._met[owner] = replace(self._met[owner], call=None)

    def forget(self, owner: str) -> None:
        """It is gone, or has another policy."""
        self._met.pop(owner, None)


def fresh_from(
    call: Call | None, failures: Iterable[Failure], retry_at: datetime | None, now: datetime
) -> datetime | None:
    """How old the registry's word on digests may be: as the comparison wants it, younger than a
    pull that brought another digest than it had promised, and than people's word to try again."""
    times = [one.at for one in failures if one.reason == Reason.DIGEST_MISMATCH]
    if call is not None:
        times.append(call.since)
    if retry_at is not None and retry_at <= now:
        times.append(retry_at)
    return max(times, default=None)
