"""What all exchanges share: the fleet, the settings, the counts, and connections to servers."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ollama_fleet.router.accounting import Accounting
from ollama_fleet.router.admission import Admission
from ollama_fleet.router.call import Call
from ollama_fleet.router.connecting import Connector
from ollama_fleet.router.estimates import Estimates
from ollama_fleet.router.gate import Gate
from ollama_fleet.router.pool import Pool
from ollama_fleet.router.settings import Settings
from ollama_fleet.router.sharing import Shares
from ollama_fleet.router.snapshot import Fleet, Server, Snapshot

if TYPE_CHECKING:
    from ollama_fleet.router.exchange import Exchange


class Relay:
    """What all exchanges share: the fleet, a pool of connections per server, the counts."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fleet: Fleet,
        settings: Settings,
        accounting: Accounting,
        shares: Shares,
    ) -> None:
        self.loop = loop
        self.fleet = fleet
        self.settings = settings
        self.accounting = accounting
        self.exchanges = 0
        self.gate: Gate | None = None
        """None: whoever reaches the router may ask."""
        self.estimates = Estimates()
        self._listeners: list[Callable[[Call], None]] = [self.estimates.learn]
        self._loaded_listeners: list[Callable[[str], None]] = []
        self._turns: dict[str, int] = {}
        self._pools: dict[str, Pool] = {}
        self._connector = Connector(loop)
        fleet.on_want(self._follow)
        self.admission = Admission(self, shares)
        self.on_over(self.admission.over)

    def pool(self, server: Server) -> Pool:
        """The connections to `server`."""
        pool = self._pools.get(server.name)
        if pool is None:
            pool = self._pools[server.name] = Pool(self.loop, server.endpoint)
        return pool

    def connections(self, server: Server) -> tuple[int, int]:
        """How many connections to `server` are open, and how many of these idle."""
        pool = self._pools.get(server.name)
        return (len(pool.connections), pool.idle) if pool is not None else (0, 0)

    def on_over(self, listener: Callable[[Call], None]) -> None:
        """Call `listener` with every call that is over."""
        self._listeners.append(listener)

    def off_over(self, listener: Callable[[Call], None]) -> None:
        """Call `listener` no more."""
        self._listeners.remove(listener)

    def on_loaded(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of every server that has loaded a model."""
        self._loaded_listeners.append(listener)

    def loaded(self, server: Server, model: str, *, worked: bool) -> None:
        """An answer has begun, so `model` is not being loaded any longer."""
        if server.load.loading.pop(model, None) is None or not worked:
            return
        self.fleet.learned_resident(server.name, model)
        for listener in self._loaded_listeners:
            listener(server.name)

    def over(self, call: Call) -> None:
        """A call is over, however it ended."""
        self.exchanges -= 1
        call.ended = self.loop.time()
        self.accounting.over(call)
        if self.gate is not None:
            self.gate.over(call)
        for listener in self._listeners:
            listener(call)

    def turn(self, model: str) -> int:
        """Whose turn it is: one more for each choice of a server for `model`."""
        turn = self._turns.get(model, -1) + 1
        self._turns[model] = turn
        return turn

    def connect(self, exchange: "Exchange", pool: Pool) -> None:
        """Open a connection for an exchange; rare enough for a task."""
        self._connector.connect(exchange, pool, self.settings.connect)

    def expire(self, now: float) -> None:
        """Close idle connections that have grown old."""
        for pool in self._pools.values():
            pool.expire(now)

    def close(self) -> None:
        """Close every idle connection, and the others when they are done."""
        for pool in self._pools.values():
            pool.close()

    def _follow(self, snapshot: Snapshot) -> None:
        endpoints = {server.name: server.endpoint for server in snapshot.servers}
        for name, pool in list(self._pools.items()):
            endpoint = endpoints.get(name)
            if endpoint is None or not pool.serves(endpoint):
                self._pools.pop(name).close()
