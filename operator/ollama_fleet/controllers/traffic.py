"""What routers say of the servers they send requests to: how many are under way."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

import httpx2

from ollama_fleet.api.servers import ROUTER_LABEL
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import POD
from ollama_fleet.plan.drain import Report, Use, wedged_in
from ollama_fleet.plan.router import ADMIN_PORT

TIMEOUT = 2.0
"""Seconds that a router has to answer."""


class Traffic:
    """Asks the routers of every namespace now and then, and on demand.

    ``changed`` hears the namespace where servers have other numbers of requests than before, or
    where they became known or unknown.
    """

    def __init__(
        self, store: Store, clock: Clock, interval: float, changed: Callable[[str], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._interval = interval
        self._changed = changed
        self._active: dict[str, Counter[str]] = {}
        self._wedged: dict[str, dict[str, tuple[str, ...]]] = {}
        self._met: set[str] = set()
        self._meeting = asyncio.Lock()

    def active(self, namespace: str) -> Mapping[str, int] | None:
        """Requests under way by URL, as last told; None where no router told anything."""
        return self._active.get(namespace)

    def wedged(self, namespace: str) -> Mapping[str, tuple[str, ...]]:
        """Models that servers do not answer with any more, by URL, as last told."""
        return self._wedged.get(namespace, {})

    async def reports(self, namespace: str) -> tuple[Report | None, ...]:
        """What each router of a namespace says now; None for one that does not answer."""
        return await reports_of(self._routers().get(namespace, ()))

    async def run(self) -> None:
        """Keep the numbers fresh, for ever."""
        while True:
            await self._clock.wait(asyncio.Event(), self._interval)
            await self.look()

    async def meet(self, namespace: str) -> None:
        """Ask the routers of a namespace that were not asked since this operator started.

        Before that, what was told of its servers would be taken back.
        """
        async with self._meeting:
            if namespace in self._met:
                return
            self._met.add(namespace)
            if told := _heard(await self.reports(namespace)):
                self._active[namespace] = _sum(told)
                self._wedged[namespace] = wedged_in(told)

    async def look(self) -> None:
        """Ask every router once."""
        active: dict[str, Counter[str]] = {}
        wedged: dict[str, dict[str, tuple[str, ...]]] = {}
        for namespace, pods in self._routers().items():
            if told := _heard(await reports_of(pods)):
                active[namespace] = _sum(told)
                wedged[namespace] = wedged_in(told)
        before, self._active = self._active, active
        found, self._wedged = self._wedged, wedged
        for namespace in before.keys() | active.keys():
            # that nothing is under way is news where it was not known
            same = before.get(namespace) == active.get(namespace)
            if not same or (found.get(namespace) or {}) != self.wedged(namespace):
                self._changed(namespace)

    def _routers(self) -> dict[str, list[Object]]:
        found: dict[str, list[Object]] = defaultdict(list)
        for pod in self._store.list(POD):
            if ROUTER_LABEL in (pod["metadata"].get("labels") or {}):
                found[pod["metadata"]["namespace"]].append(pod)
        return found


def _heard(reports: Iterable[Report | None]) -> list[Report]:
    return [report for report in reports if report is not None]


def _sum(reports: Iterable[Report]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for report in reports:
        for url, use in report.items():
            if use.in_flight:
                counts[url] += use.in_flight
    return counts


async def reports_of(router_pods: Iterable[Object]) -> tuple[Report | None, ...]:
    """The report of each router, None where it does not answer.

    One that listens no longer, or has no address yet, sends nothing anywhere.
    """
    hosts = [pod.get("status", {}).get("podIP") for pod in router_pods]
    # without TLS there is nothing to verify, and reading the authorities takes time
    async with httpx2.AsyncClient(timeout=TIMEOUT, trust_env=False, verify=False) as client:
        return tuple(await asyncio.gather(*(_report(client, host) for host in hosts if host)))


async def _report(client: httpx2.AsyncClient, host: str) -> Report | None:
    address = f"[{host}]" if ":" in host else host
    try:
        answer = await client.get(f"http://{address}:{ADMIN_PORT}/servers")
        answer.raise_for_status()
        found: dict[str, Use] = {}
        for one in answer.json()["servers"]:
            # a server may have left with requests and be back at the same address
            before = found.get(one["url"], Use(taking=False, in_flight=0))
            taking = before.taking or one["state"] == "Ready"
            models = Counter(before.models) + Counter(one.get("models") or {})
            wedged = before.wedged.union(one.get("wedged") or ())
            heard = before.heard.union(one.get("heard") or ()) - wedged
            count = before.in_flight + int(one["inFlight"])
            found[one["url"]] = Use(taking, count, models, wedged, heard)
    except httpx2.ConnectError:
        return {}
    except (httpx2.HTTPError, KeyError, TypeError, ValueError):
        return None
    return found
