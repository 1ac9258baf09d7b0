"""Opens connections to servers.

Apart from what is compiled, as a coroutine must not be (ADR 13).
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from ollama_fleet.router.upstream import Upstream

if TYPE_CHECKING:
    from ollama_fleet.router.exchange import Exchange
    from ollama_fleet.router.pool import Pool

log = logging.getLogger(__name__)


class Connector:
    """Opens connections to servers, for exchanges that wait for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self, exchange: "Exchange", pool: "Pool", seconds: float) -> None:
        """Open a connection and hand it to the exchange, or tell it that there is none.

        `seconds` is a limit (0: none). What the exchange has ceased to wait for goes to the pool.
        """
        task = self._loop.create_task(self._connect(exchange, exchange.attempt, pool, seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(
        self, exchange: "Exchange", attempt: int, pool: "Pool", seconds: float
    ) -> None:
        endpoint = pool.endpoint
        try:
            async with asyncio.timeout(seconds or None):
                _, connection = await self._loop.create_connection(
                    lambda: cast(Any, Upstream(pool)), endpoint.host, endpoint.port, ssl=pool.tls
                )
        except (OSError, UnicodeError) as error:  # a name that IDNA cannot encode is the latter
            log.info("cannot connect to %s: %s", endpoint.name, error or "timed out")
            if exchange.attempt == attempt:
                exchange.connect_failed()
            return
        upstream = cast(Upstream, connection)
        if exchange.attempt == attempt:
            exchange.connected(upstream)
        else:
            pool.put(upstream)
