"""The Secrets that concern a router's clients: their keys, and its certificate."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ollama_fleet.api.access import SecretError
from ollama_fleet.api.keys import Clients
from ollama_fleet.api.tls import Pair, serve
from ollama_fleet.kube.access import read_certificate, read_clients
from ollama_fleet.kube.client import Kube
from ollama_fleet.kube.errors import KubeError
from ollama_fleet.router.server import Router

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between reads, and so until a key that was taken away is refused. A watch would tell at
once, but the operator could grant the right to it only if it might watch every Secret itself."""


class OwnSecrets:
    """Reads them again and again; what was good last stays while they cannot be read.

    `changed` is called when there is something else to wait for than before.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        router: Router,
        changed: Callable[[], None],
        interval: float = INTERVAL,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._router = router
        self._changed = changed
        self._interval = min(interval, INTERVAL)
        self._keys: str | None = None
        self._tls: str | None = None
        self._clients: Clients | None = None
        self._pair: Pair | None = None
        self._failed: dict[str, str] = {}
        self._more = asyncio.Event()

    def want(self, keys: str | None, tls: str | None) -> None:
        """Read these from now on, and at once where they are others."""
        if keys is None:
            self._clients = None
        if (keys, tls) != (self._keys, self._tls):
            self._keys, self._tls = keys, tls
            self._failed.clear()
            self._more.set()

    @property
    def waiting_for(self) -> str:
        """What nobody can be served without; empty: all is there."""
        if self._keys is not None and self._router.gate.closed:
            return f"its clients' keys in Secret {self._keys}"
        certificate = self._router.certificate
        if certificate is not None and not certificate.known:
            return f"its certificate in Secret {self._tls}"
        return ""

    async def run(self) -> None:
        """Read for ever."""
        while True:
            self._more.clear()
            before = self.waiting_for
            if self._keys is not None:
                await self._try(self._keys, self._read_keys)
            if self._tls is not None and self._router.certificate is not None:
                await self._try(self._tls, self._read_certificate)
            if self.waiting_for != before:
                self._changed()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._more.wait()

    async def _try(self, name: str, read: Callable[[str], Awaitable[None]]) -> None:
        try:
            await read(name)
        except SecretError as error:
            self._fail(name, str(error))
        except KubeError as error:
            self._fail(name, f"Secret {name} cannot be read: {error}")
        else:
            if self._failed.pop(name, None) is not None:
                log.info("the Secret %s can be used", name)

    async def _read_keys(self, name: str) -> None:
        found = await read_clients(self._kube, self._namespace, name)
        if name != self._keys or found == self._clients:
            return
        self._clients = found
        self._router.gate.take(found)
        log.info("Secret %s: %d clients have a key", name, len(found.good))
        for fault in found.faults.values():
            log.warning("Secret %s: %s; what was good of it last stays", name, fault.message)

    async def _read_certificate(self, name: str) -> None:
        pair = await read_certificate(self._kube, self._namespace, name)
        certificate = self._router.certificate
        if name != self._tls or certificate is None or pair == self._pair:
            return
        self._pair = pair
        certificate.use(serve(pair))
        log.info("serving HTTPS with the certificate in Secret %s", name)

    def _fail(self, name: str, message: str) -> None:
        """Say so once, and not again for the same cause."""
        if name in (self._keys, self._tls) and self._failed.get(name) != message:
            log.warning("%s; what was good last stays", message)
            self._failed[name] = message
