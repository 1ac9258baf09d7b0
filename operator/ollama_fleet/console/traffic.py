"""What passes through routers, asked of their pods while somebody looks."""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import httpx2

from ollama_fleet.api.servers import ROUTER_LABEL
from ollama_fleet.console.wire import Traffic as Told
from ollama_fleet.kube import Kube, KubeError, Object
from ollama_fleet.kube.kinds import POD
from ollama_fleet.plan.router import ADMIN_PORT
from ollama_fleet.traffic.exposition import Scrape, read
from ollama_fleet.traffic.figures import NAMES, Growth, growth, lately, together

log = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds from one look to the next; the second comes sooner."""
FIRST = 1.0
STEPS = 5
"""Looks that figures are made of."""
PODS_KNOWN = 10.0
"""Seconds for which the pods of routers are taken to be those of the last list."""
TIMEOUT = 2.0
"""Seconds that a pod has to answer."""
STAY = 10.0
"""Seconds for which it goes on looking after somebody has asked once."""

Pods = Mapping[str, Mapping[str, str]]
"""By router, its pods: their addresses by name."""


class Traffic:
    """One loop for everybody who looks; without any it asks nothing and remembers nothing.

    ``changed`` is called after each look.
    """

    def __init__(
        self, kube: Kube, namespaces: Sequence[str], changed: Callable[[], None] = lambda: None
    ) -> None:
        self._kube = kube
        self._namespaces: list[str | None] = list(namespaces) or [None]
        self._changed = changed
        self._lookers = 0
        self._until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._told: dict[str, Told] = {}

    def of(self, router: str) -> Told | None:
        """What passes through a router (NAMESPACE.NAME); None: no pod of it tells."""
        return self._told.get(router)

    def all(self) -> Mapping[str, Told]:
        """The same of every router that tells."""
        return self._told

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Keep the figures fresh meanwhile."""
        self._lookers += 1
        self._begin()
        try:
            yield
        finally:
            self._lookers -= 1

    async def asked(self) -> None:
        """Until there are figures; at most some seconds, where pods do not answer."""
        with self.looking():
            await self._looked.wait()
            self._until = asyncio.get_running_loop().time() + STAY

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def _wanted(self) -> bool:
        return self._lookers > 0 or asyncio.get_running_loop().time() < self._until

    async def _run(self) -> None:
        while self._wanted():
            try:
                await self._follow()
            except Exception:
                log.exception("what passes through routers: failed by a defect")
                await asyncio.sleep(EVERY)
            finally:
                self._told = {}
                self._looked.set()
                self._looked = asyncio.Event()

    async def _follow(self) -> None:
        """Look while anybody does."""
        loop = asyncio.get_running_loop()
        steps: dict[str, deque[Growth]] = {}
        before: dict[str, dict[str, Scrape]] = {}
        pods: Pods = {}
        listed, last = -PODS_KNOWN, 0.0
        # without TLS there is nothing to verify, and reading the authorities takes time
        async with httpx2.AsyncClient(timeout=TIMEOUT, trust_env=False, verify=False) as http:
            while self._wanted():
                begun = loop.time()
                if begun - listed >= PODS_KNOWN:
                    pods, listed = await self._pods(), begun
                now, at = await _scrapes(http, pods), loop.time()
                steps = {router: steps.get(router, deque(maxlen=STEPS)) for router in now}
                for router, scrapes in now.items():
                    grown = growth(before.get(router, {}), scrapes, at - last)
                    if grown.known:
                        steps[router].append(grown)
                self._told = {
                    router: Told.model_validate(asdict(lately(together(steps[router]), scrapes)))
                    for router, scrapes in now.items()
                }
                if last or not now:
                    self._looked.set()
                self._changed()
                wait = EVERY if last else FIRST
                before, last = now, at
                await asyncio.sleep(max(0.0, begun + wait - loop.time()))

    async def _pods(self) -> Pods:
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for namespace in self._namespaces:
            try:
                pods = await self._kube.list(POD, namespace, ROUTER_LABEL)
            except KubeError as error:
                log.warning("the pods of routers cannot be listed: %s", error)
                continue
            for pod in pods:
                if address := _address(pod):
                    meta = pod["metadata"]
                    router = f"{meta['namespace']}.{meta['labels'][ROUTER_LABEL]}"
                    found[router][meta["name"]] = address
        return found


def _address(pod: Object) -> str | None:
    host: str | None = (pod.get("status") or {}).get("podIP")
    return f"[{host}]" if host and ":" in host else host


async def _scrapes(http: httpx2.AsyncClient, pods: Pods) -> dict[str, dict[str, Scrape]]:
    """What every pod that answers tells, by router; without those of which none does."""
    every = [(router, name, at) for router, told in pods.items() for name, at in told.items()]
    answers = await asyncio.gather(*(_scrape(http, address) for _, _, address in every))
    found: dict[str, dict[str, Scrape]] = defaultdict(dict)
    for (router, name, _), answer in zip(every, answers, strict=True):
        if answer is not None:
            found[router][name] = answer
    return found


async def _scrape(http: httpx2.AsyncClient, address: str) -> Scrape | None:
    try:
        answer = await http.get(f"http://{address}:{ADMIN_PORT}/metrics")
        answer.raise_for_status()
        return read(answer.text, NAMES)
    except (httpx2.HTTPError, ValueError):
        return None
