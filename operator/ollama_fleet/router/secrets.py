"""The Secrets that servers are reached by: read by name, again and again, kept while they last."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from ollama_fleet.api.access import Access, SecretError, SecretRefs
from ollama_fleet.api.conditions import Reason
from ollama_fleet.kube.access import read_access
from ollama_fleet.kube.client import Kube
from ollama_fleet.kube.errors import KubeError

log = logging.getLogger(__name__)

INTERVAL, RETRY = 30.0, 2.0
"""Seconds between reads; the second after one failed, as a right to a Secret may be under way."""


class Secrets:
    """What servers are reached by. `changed` is called when that is another than before."""

    def __init__(
        self, kube: Kube, namespace: str, changed: Callable[[], None], interval: float = INTERVAL
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._changed = changed
        self._interval = interval
        self._wanted: frozenset[SecretRefs] = frozenset()
        self._known: dict[SecretRefs, Access] = {}
        self._failed: dict[SecretRefs, str] = {}
        self._more = asyncio.Event()

    def want(self, wanted: Iterable[SecretRefs]) -> None:
        """Read these from now on, and no others; new ones at once."""
        self._wanted = frozenset(refs for refs in wanted if refs.names)
        for gone in (self._known.keys() | self._failed.keys()) - self._wanted:
            self._known.pop(gone, None)
            self._failed.pop(gone, None)
        if not self.settled:
            self._more.set()

    @property
    def settled(self) -> bool:
        """Whether each has been read, or could not be."""
        return self._wanted <= self._known.keys() | self._failed.keys()

    def access(self, refs: SecretRefs) -> Access | None:
        """What they held last; None while that is of no use."""
        return self._known.get(refs) if refs.names else Access()

    async def run(self) -> None:
        """Read for ever."""
        while True:
            self._more.clear()
            before, settled = dict(self._known), self.settled
            for refs in self._wanted:
                await self._read(refs)
            if self._known != before or not settled:
                self._changed()
            pause = min(RETRY, self._interval) if self._failed else self._interval
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._more.wait()

    async def _read(self, refs: SecretRefs) -> None:
        try:
            access = await read_access(self._kube, self._namespace, refs)
        except SecretError as error:
            if error.reason is not Reason.SECRET_FORBIDDEN:
                self._known.pop(refs, None)
            self._fail(refs, str(error))
        except KubeError as error:
            self._fail(refs, f"{' and '.join(refs.names)} cannot be read: {error}")
        else:
            if self._failed.pop(refs, None) is not None:
                log.info("the Secrets %s can be used", " and ".join(refs.names))
            if refs in self._wanted:
                self._known[refs] = access

    def _fail(self, refs: SecretRefs, message: str) -> None:
        """Say so once, and not again for the same cause."""
        if refs not in self._wanted:
            return
        if self._failed.get(refs) != message:
            kept = "the last good ones stay" if refs in self._known else "its server is left out"
            log.warning("%s; %s", message, kept)
        self._failed[refs] = message
