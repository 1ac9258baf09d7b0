"""Brings news of the cluster into the store, and wakes whom it concerns.

Watches bring every change at once. A list now and then finds what they missed, and objects that
are gone without a word; where a watch missed something twice and said nothing else, it is dead.
"""

import asyncio
import logging
from collections.abc import Callable

from ollama_fleet.controllers.affected import affected
from ollama_fleet.controllers.clock import Clock
from ollama_fleet.controllers.loop import Loop
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Kind, Kube, KubeError, NotFound, Object, Unavailable, kind_of
from ollama_fleet.kube.kinds import (
    CONFIG_MAP,
    DAEMON_SET,
    DEPLOYMENT,
    HTTP_ROUTE,
    INGRESS,
    MODEL_DISTRIBUTION,
    NETWORK_POLICY,
    NODE,
    OLLAMA_NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_DISRUPTION_BUDGET,
    RESOURCE_CLAIM,
    RESOURCE_CLAIM_TEMPLATE,
    RESOURCE_SLICE,
    ROLE,
    ROLE_BINDING,
    ROUTER,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    STORAGE_CLASS,
)
from ollama_fleet.plan.entrances import NO_SUCH_KIND

log = logging.getLogger(__name__)

MANAGED = "app.kubernetes.io/managed-by=ollama-fleet"

WATCHED: dict[Kind, str | None] = {
    OLLAMA_NODE: None,
    MODEL_DISTRIBUTION: None,
    ROUTER: None,
    NODE: None,
    POD: MANAGED,
    STATEFUL_SET: MANAGED,
    DAEMON_SET: MANAGED,
    DEPLOYMENT: MANAGED,
    SERVICE: MANAGED,
    CONFIG_MAP: MANAGED,
    PERSISTENT_VOLUME_CLAIM: MANAGED,
    POD_DISRUPTION_BUDGET: MANAGED,
    STORAGE_CLASS: None,
    SERVICE_ACCOUNT: MANAGED,
    NETWORK_POLICY: MANAGED,
    INGRESS: MANAGED,
    HTTP_ROUTE: MANAGED,
    ROLE: MANAGED,
    ROLE_BINDING: MANAGED,
    RESOURCE_SLICE: None,
    RESOURCE_CLAIM: MANAGED,
    RESOURCE_CLAIM_TEMPLATE: MANAGED,
}
"""Every kind in the store, with the label selector its objects are read by."""

_CLAIMS_LOST = "GPUs cannot be had by ResourceClaim"
OPTIONAL = {
    NODE: "GPU memory is known only where spec.gpu.memory says it",
    STORAGE_CLASS: "that a volume cannot grow is known only once Kubernetes refuses it",
    RESOURCE_SLICE: "GPU memory is read from labels alone",
    INGRESS: "Routers cannot have spec.ingress",
    HTTP_ROUTE: "Routers cannot have spec.httpRoute until there is",
    RESOURCE_CLAIM: _CLAIMS_LOST,
    RESOURCE_CLAIM_TEMPLATE: _CLAIMS_LOST,
}
"""Kinds it can do without, where RBAC hides them or the cluster is too old; and what is lost."""

FIRST_INTERVAL, INTERVAL = 5.0, 300.0
"""Seconds between lists; the first catches what changed before the watches stood. What a watch
kept back is known after INTERVAL and a tenth of it at the latest."""


class Feed:
    """The one way into the store."""

    def __init__(
        self,
        kube: Kube,
        store: Store,
        loop: Loop,
        clock: Clock,
        random: Callable[[], float],
        namespaces: tuple[str, ...] = (),
        interval: float = INTERVAL,
    ) -> None:
        self._kube = kube
        self._store = store
        self._interval = interval
        self._loop = loop
        self._clock = clock
        self._random = random
        self._namespaces = namespaces
        self._heard: set[Kind] = set()
        self._missed: dict[Kind, int] = {}
        store.on_change = self._wake
        self.kinds = dict(WATCHED)
        """The kinds it may read: all but those of ``store.unread``."""

    def changed(self, obj: Object) -> None:
        """A watch says: this is the object now."""
        self._heard.add(kind_of(obj))
        self._store.put(obj)

    def deleted(self, obj: Object) -> None:
        """A watch says: the object is gone."""
        self._heard.add(kind_of(obj))
        self._store.remove(obj)

    @property
    def dead(self) -> list[Kind]:
        """Kinds whose watch missed changes again and again."""
        return [kind for kind, rounds in self._missed.items() if rounds >= 2]

    async def fill(self) -> None:
        """Read everything, before the first reconcile; KubeError where that is not possible."""
        for kind, loss in OPTIONAL.items():
            await self._leave_out_if_hidden(kind, loss)
        for kind in self.kinds:
            await self._list(kind)
        self._missed.clear()

    async def _leave_out_if_hidden(self, kind: Kind, loss: str) -> None:
        namespace = self._namespaces[0] if kind.namespaced and self._namespaces else None
        try:
            await self._kube.list_page(kind, namespace, limit=1)
        except KubeError as error:
            if error.transient:
                raise
            why = NO_SUCH_KIND if isinstance(error, NotFound) else str(error)
            self.kinds.pop(kind, None)
            self._store.unread[kind] = why
            log.warning("%s cannot be read (%s): %s", kind.plural, why, loss)

    async def run(self) -> None:
        """List every kind now and then, for ever."""
        never = asyncio.Event()
        pause = min(FIRST_INTERVAL, self._interval)
        while True:
            await self._clock.wait(never, pause)
            for kind in self.kinds:
                try:
                    await self._list(kind)
                except Unavailable as error:
                    log.warning("%s; listing again later", error)
                    break
                except KubeError as error:
                    log.warning("cannot list %s: %s; trying again later", kind.plural, error)
            pause = self._interval * (0.9 + 0.2 * self._random())

    async def _list(self, kind: Kind) -> None:
        news: list[Object] = []
        for namespace in self._namespaces if kind.namespaced and self._namespaces else (None,):
            found = await self._kube.list_all(kind, namespace, self.kinds[kind])
            news += self._store.replace_all(kind, found.items, found.resource_version, namespace)
        missed = bool(news) and kind not in self._heard
        self._missed[kind] = self._missed.get(kind, 0) + 1 if missed else 0
        self._heard.discard(kind)

    def _wake(self, obj: Object, before: Object | None) -> None:
        for key in affected(obj, before, self._store):
            self._loop.mark(key)
