"""One resource in a namespace, and what is beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, POD, ROUTER
from tests.cluster.fleet import resource, standing
from tests.faults.waiting import until
from tests.walk.picture import picture, same
from tests.walk.rows import Base
from tests.walk.site import Site

WITHIN = 120.0
"""Seconds for each step, on a machine that has much else to do."""
QUIET = 2.0
"""Seconds without a write, which is rest."""
KINDS = {kind.kind: kind for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)}
NAMES = {"OllamaNode": "a", "ModelDistribution": "m", "Router": "chat"}
Picture = dict[str, Any]


class Unsettled(Exception):  # noqa: N818
    """What was asked for did not come about, or there is no rest."""


class Place:
    """A namespace with what is beside a base, where the resource itself is written to."""

    def __init__(self, site: Site, namespace: str, kind: str, base: Base) -> None:
        self._site = site
        self._namespace = namespace
        self._kind = kind
        self._base = base

    async def furnish(self) -> None:
        """Make what is beside it, and wait until that stands."""
        for given in self._base.beside:
            made = resource(given["kind"], given["name"], self._fill(given["spec"]))
            made["metadata"]["labels"] = given.get("labels", {})
            await self._site.grounds.apply(self._namespace, made)

    async def write(self, spec: Any) -> None:
        """Apply the resource; KubeError where the API server does not take it."""
        made = resource(self._kind, NAMES[self._kind], self._fill(spec))
        await self._site.grounds.apply(self._namespace, made)

    def _fill(self, spec: Any) -> Any:
        return self._site.fill(spec, self._namespace)

    async def picture(self, stands: str) -> Picture:
        """What there is once it stands so and the operator rests; Unsettled where it never does."""
        try:
            await until(partial(self._stands, stands), "it does not stand", WITHIN)
            rested = partial(self._site.rested, self._namespace)
            await until(lambda: rested() > QUIET, "the operator goes on writing", WITHIN)
        except AssertionError as error:
            raise Unsettled(f"{error}: {self._told()}") from None
        return await picture(self._site.grounds.ledger, self._namespace)

    async def lacks(
        self,
        stands: str,
        wanted: Callable[[Picture], list[str] | Awaitable[list[str]]],
        what: str,
    ) -> list[str]:
        """What it lacks of what is wanted once it stands so, and that does not come either."""
        deadline = time.monotonic() + WITHIN / 2
        while True:
            found = wanted(await self.picture(stands))
            lines = found if isinstance(found, list) else await found
            if not lines or time.monotonic() > deadline:
                return [f"{what}: {line}" for line in lines]
            await asyncio.sleep(0.5)

    def same(self, taken: Picture) -> Picture:
        """Of a picture what is to be compared."""
        return same(taken, self._namespace)

    def _stands(self, stands: str) -> bool:
        ledger = self._site.grounds.ledger
        own = ledger.get(self._namespace, KINDS[self._kind], NAMES[self._kind])
        now = standing(own) if own else None
        if now is None or now.reason != stands or now.ready != (stands == "Ready"):
            return False
        if not all(self._follows(given) for given in self._base.beside):
            return False
        if not all(self._is_told(server) for server in self._servers()):
            return False
        return all(
            "deletionTimestamp" not in pod["metadata"]
            for pod in ledger.objects(self._namespace, POD)
        )

    def _follows(self, given: Any) -> bool:
        obj = self._site.grounds.ledger.get(self._namespace, KINDS[given["kind"]], given["name"])
        now = standing(obj) if obj else None
        return now is not None and (now.ready or now.stalled or now.reason == "Cordoned")

    def _servers(self) -> list[Any]:
        """Those that are Ready, as the status of their OllamaNodes has them."""
        nodes = self._site.grounds.ledger.objects(self._namespace, OLLAMA_NODE)
        told = [(node.get("status") or {}).get("servers") or () for node in nodes]
        return [one for servers in told for one in servers if one["state"] == "Ready"]

    def _is_told(self, server: Any) -> bool:
        """Whether the operator knows what it asks for now and then: what routers send there, and
        whether models that are to be in memory are."""
        routed = bool(self._site.grounds.ledger.objects(self._namespace, ROUTER))
        resident = set(server.get("resident") or ())
        return resident.issuperset(server.get("preloaded") or ()) and (
            not routed or "activeRequests" in server
        )

    def _told(self) -> list[str]:
        ledger = self._site.grounds.ledger
        told = [
            f"{kind} {obj['metadata']['name']}: {standing(obj)}"
            for kind in KINDS.values()
            for obj in ledger.objects(self._namespace, kind)
        ]
        last = [
            str(call)
            for _, call in self._site.proxy.writes
            if f"/namespaces/{self._namespace}/" in call.path
        ]
        return [*told, f"last writes: {last[-3:]}"]
