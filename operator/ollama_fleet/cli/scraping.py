"""What passes through Routers: their pods' own metrics, asked through the API server."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from ollama_fleet.api.servers import ROUTER_LABEL
from ollama_fleet.cli.pods import owner
from ollama_fleet.kube import Forbidden, Kube, KubeError, Object
from ollama_fleet.kube.kinds import POD
from ollama_fleet.plan.router import ADMIN_PORT
from ollama_fleet.traffic.exposition import Scrape, read
from ollama_fleet.traffic.figures import NAMES, Figures, figures

WINDOW = 1.0
"""Seconds between two looks, where there is one figure to be told."""
_PATIENCE = 2.0
"""Seconds in which a pod answers, or is left out."""
_REMEDY = "docs/guides/kubectl.md has the Role: get on pods/proxy, list on pods"

Place = tuple[str, str]
"""Namespace and name of a Router."""


@dataclass(frozen=True)
class Look:
    """What the routers' pods told at one time."""

    at: float
    told: Mapping[Place, Mapping[str, Scrape]] = field(default_factory=dict)
    """By Router, by pod."""
    problem: str = ""
    """Why not all of them told anything, and what to do."""

    def replicas(self, namespace: str | None, router: str | None) -> dict[str, Scrape]:
        """The pods of one Router, of a namespace's Routers, or of all."""
        return {
            f"{where}/{pod}": scrape
            for (where, name), pods in self.told.items()
            if namespace in (None, where) and router in (None, name)
            for pod, scrape in pods.items()
        }


@dataclass(frozen=True)
class Traffic:
    """What happened between two looks."""

    before: Look
    after: Look

    @property
    def problem(self) -> str:
        """Why some or all of it is not known."""
        return self.after.problem or self.before.problem

    def figures(self, namespace: str | None = None, router: str | None = None) -> Figures | None:
        """Of one Router, of a namespace's Routers, or of all; None where none told anything."""
        after = self.after.replicas(namespace, router)
        if not after:
            return None
        seconds = self.after.at - self.before.at
        before = self.before.replicas(namespace, router) if seconds else {}
        return figures(before, after, seconds or 1.0)

    def by_model(self) -> dict[str, int]:
        """Requests that are at servers now, by model."""
        return self._now("ollama_fleet_router_in_flight")

    def queued(self) -> dict[str, int]:
        """Requests that wait for a server, by model."""
        return self._now("ollama_fleet_router_queue_length")

    def _now(self, name: str) -> dict[str, int]:
        found: dict[str, int] = defaultdict(int)
        for scrape in self.after.replicas(None, None).values():
            for labels, value in scrape.get(name, {}).items():
                found[dict(labels).get("model", "")] += int(value)
        return dict(found)


async def watched(kube: Kube, namespace: str | None) -> Traffic:
    """Look twice, a moment apart; what cannot be seen is told in it, never raised."""
    before = await look(kube, namespace)
    if not before.told:
        return Traffic(before, before)
    await asyncio.sleep(WINDOW)
    return Traffic(before, await look(kube, namespace))


async def look(kube: Kube, namespace: str | None) -> Look:
    """Ask all pods of Routers, each for a short time; never raises a KubeError."""
    at = monotonic()
    try:
        async with asyncio.timeout(_PATIENCE):
            pods = await kube.list(POD, namespace, ROUTER_LABEL)
    except (KubeError, TimeoutError) as error:
        return Look(at, problem=_told([error], 0))
    running = [pod for pod in pods if _ready(pod)]
    at = monotonic()
    answers = await asyncio.gather(*(_ask(kube, pod) for pod in running))
    told: dict[Place, dict[str, Scrape]] = defaultdict(dict)
    problems = []
    for pod, answer in zip(running, answers, strict=True):
        meta = pod["metadata"]
        if isinstance(answer, Exception):
            problems.append(answer)
        else:
            told[meta["namespace"], owner(pod, ROUTER_LABEL)][meta["name"]] = answer
    return Look(at, told, _told(problems, len(running)))


async def _ask(kube: Kube, pod: Object) -> Scrape | Exception:
    meta = pod["metadata"]
    path = f"{meta['name']}:{ADMIN_PORT}/proxy/metrics"
    try:
        return read(await kube.text(POD, path, meta["namespace"], timeout=_PATIENCE), NAMES)
    except (KubeError, ValueError) as error:
        return error


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _told(problems: Iterable[Exception], pods: int) -> str:
    """In one line."""
    problems = list(problems)
    if not problems:
        return ""
    first = problems[0]
    if isinstance(first, Forbidden):
        return f"No figures of traffic: you may not ask the routers' pods. {_REMEDY}."
    if isinstance(first, TimeoutError):
        return f"No figures of traffic: the API server gives no answer within {_PATIENCE:g} s."
    who = f"{len(problems)} of {pods} routers' pods do not answer" if pods else "no answer"
    why = " ".join(str(first).split())
    return f"No figures of traffic: {who} ({why}). See kubectl ollama logs router."
