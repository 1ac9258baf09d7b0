"""The running router: its listeners, its clock, and how it ends."""

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

from ollama_fleet.router.accesslog import AccessLog
from ollama_fleet.router.accounting import Accounting
from ollama_fleet.router.breaker import Breaker
from ollama_fleet.router.certificate import Certificate
from ollama_fleet.router.exchange import Exchange
from ollama_fleet.router.exposition import Served
from ollama_fleet.router.fleetapi import FleetApi
from ollama_fleet.router.front import Front
from ollama_fleet.router.frontage import Frontage, Handler
from ollama_fleet.router.gate import Gate
from ollama_fleet.router.metrics import CONNECTIONS, LOG_LOST, Metrics, queues
from ollama_fleet.router.operators import Operators
from ollama_fleet.router.probe import Prober
from ollama_fleet.router.relay import Relay
from ollama_fleet.router.replicas import Replicas, new_name
from ollama_fleet.router.settings import Settings
from ollama_fleet.router.sharing import Shares
from ollama_fleet.router.snapshot import Fleet
from ollama_fleet.router.state import shown, state_of
from ollama_fleet.router.tenants import Tenants
from ollama_fleet.router.wedges import Wedges

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
BACKLOG = 2048
_OPERATOR_CONNECTIONS = 256
_HANDSHAKE_SECONDS = 10.0
_LOG_SECONDS = 2.0


class Router:
    """Listens, relays and probes from `start` until `drain` or `close`."""

    def __init__(self, settings: Settings) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self.settings = settings
        self.fleet = Fleet(self._new_breaker, loop.time)
        self.accounting = Accounting()
        shares = Shares(new_name())
        self.relay = Relay(loop, self.fleet, settings, self.accounting, shares)
        admission = self.relay.admission
        self.replicas = Replicas(self.fleet, shares, admission.waiting, admission.freed_any)
        admission.held_back = self.replicas.ask_now
        self.gate = Gate(loop.time, self.accounting)
        self.certificate: Certificate | None = None
        """What tenants are served HTTPS with; None: plain HTTP."""
        self.prober = Prober(self.fleet, settings)
        # A load may have put others out of memory.
        self.relay.on_loaded(self.prober.poke)
        self.waiting_for = ""
        self._leaving = False
        self._guarded = False
        self._log: AccessLog | None = None
        self._tenants = Tenants(self.relay, self._not_ready)
        self._frontage = self._new_frontage(self._tenants)
        self._fleet_api: FleetApi | None = None
        self.wedges = Wedges(loop, self.fleet, self._exchanges)
        self.relay.on_over(self.wedges.places.over)
        metrics = Metrics(
            self.accounting, self.fleet, loop.time, self._own_metrics, queues(admission)
        )
        self._operators = self._new_frontage(
            Operators(self._not_ready, metrics.render, self.fleet, self.replicas.told, self._state)
        )
        self._operators.connections = _OPERATOR_CONNECTIONS
        self._listeners: dict[Frontage, list[asyncio.Server]] = {
            self._frontage: [],
            self._operators: [],
        }
        self._tick_handle = loop.call_later(TICK_SECONDS, self._tick)

    def configure(self, settings: Settings) -> None:
        """Take over changed settings; requests under way keep the old ones."""
        self.settings = settings
        self.relay.settings = settings
        self.prober.settings = settings
        for frontage in (self._frontage, self._operators):
            frontage.header_bytes = settings.header_bytes
            frontage.body_bytes = settings.body_bytes
        self._frontage.connections = settings.connections
        self._keep_gate(settings)
        for server in self.fleet.snapshot.servers:
            server.load.retune(settings.failures, settings.cooldown, settings.max_cooldown)
        self._keep_log(settings.access_log)

    def guard(self) -> None:
        """Ask for keys from now on, whatever the settings say."""
        self._guarded = True
        self._keep_gate(self.settings)

    def use(self, certificate: ssl.SSLContext) -> None:
        """Serve new connections of tenants with this, where they are served by HTTPS."""
        if self.certificate is None:
            self.certificate = Certificate()
        self.certificate.use(certificate)

    def hand_on(self, console: str) -> None:
        """The fleet API is answered by the console at this URL, where the settings say so."""
        self._fleet_api = FleetApi(console, self._loop)
        self._tenants.console = self._fleet_api.hand_on

    def _keep_gate(self, settings: Settings) -> None:
        if settings.guarded or self._guarded:
            self.gate.anonymous = bool(settings.anonymous)
            self.gate.share(settings.replicas)
            self.relay.gate = self.gate
        else:
            self.relay.gate = None
            self.gate.forget()

    async def listen(self, host: str, port: int, *, tls: bool = False) -> int:
        """Serve tenants; returns the port, which the system picks where `port` is 0.

        With `tls` by HTTPS: nobody is served before `certificate` has one to use.
        """
        if tls and self.certificate is None:
            self.certificate = Certificate()
        return await self._listen(host, port, self._frontage, self.certificate if tls else None)

    async def listen_for_operators(self, host: str, port: int) -> int:
        """Serve health, readiness and metrics; returns the port."""
        return await self._listen(host, port, self._operators)

    async def drain(self, pause: float, seconds: float) -> int:
        """End gently; returns how many requests had to be cut off.

        Readiness fails at once; for `pause` seconds more connections are still accepted, as load
        balancers take a moment to notice; then requests under way have `seconds` to finish.
        """
        self._leaving = True
        log.info("leaving: %d requests under way", self.relay.exchanges)
        await asyncio.sleep(pause)
        for listener in self._listeners[self._frontage]:
            listener.close()
        self._frontage.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._frontage.drained.wait()
        cut = self.relay.exchanges
        await self.close()
        return cut

    async def close(self) -> None:
        """End now."""
        self._tick_handle.cancel()
        self.wedges.close()
        for frontage, listeners in self._listeners.items():
            for listener in listeners:
                listener.close()
            frontage.abort()
        self.relay.close()
        if self._fleet_api is not None:
            await self._fleet_api.close()
        await self.replicas.close()
        await self.prober.close()
        if self._log is not None:
            self._log.close(_LOG_SECONDS)

    async def _listen(
        self, host: str, port: int, frontage: Frontage, tls: Certificate | None = None
    ) -> int:
        listener = await self._loop.create_server(
            lambda: cast(asyncio.Protocol, Front(frontage)),
            host,
            port,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if tls else None,
            ssl_shutdown_timeout=_HANDSHAKE_SECONDS if tls else None,
        )
        self._listeners[frontage].append(listener)
        return int(listener.sockets[0].getsockname()[1])

    def _new_frontage(self, handler: Handler) -> Frontage:
        settings = self.settings
        return Frontage(
            self._loop,
            handler,
            header_bytes=settings.header_bytes,
            body_bytes=settings.body_bytes,
            connections=settings.connections,
        )

    def _keep_log(self, wanted: bool) -> None:
        if wanted and self._log is None:
            self._log = AccessLog(self._loop.time)
            self.relay.on_over(self._log.over)
        elif not wanted and self._log is not None:
            self.relay.off_over(self._log.over)
            self._log.close()
            self._log = None
        self._tenants.log = self._log

    def _own_metrics(self) -> Iterator[Served]:
        yield CONNECTIONS, [((), len(self._frontage.fronts))]
        if self._log is not None:
            yield LOG_LOST, [((), self._log.lost)]

    def _state(self) -> dict[str, Any]:
        about = {
            "waitingFor": self._not_ready(),
            "leaving": self._leaving,
            "connections": len(self._frontage.fronts),
            "settings": shown(self.settings),
        }
        return about | state_of(self.relay, self._frontage.fronts, self._loop.time())

    def _new_breaker(self) -> Breaker:
        settings = self.settings
        return Breaker(settings.failures, settings.cooldown, settings.max_cooldown)

    def _not_ready(self) -> str:
        """Why the router should get no traffic; empty where it should."""
        if self._leaving:
            return "leaving"
        if self.waiting_for:
            return f"waiting for {self.waiting_for}"
        return "" if self.prober.settled else "waiting for the first probes"

    def _exchanges(self) -> Iterator[Exchange]:
        fronts = list(self._frontage.fronts)
        return (front.exchange for front in fronts if front.exchange is not None)

    def _tick(self) -> None:
        now = self._loop.time()
        self._frontage.expire(now)
        self._operators.expire(now)
        self.relay.expire(now)
        self.relay.admission.tick(now)
        self.wedges.look(now)
        self._tick_handle = self._loop.call_later(TICK_SECONDS, self._tick)
