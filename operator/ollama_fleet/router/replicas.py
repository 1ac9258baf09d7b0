"""The other replicas of this router: asked for their counts several times a second.

A round asks all of them at once. One that does not answer counts for nothing two seconds later;
while none answers, this router acts as if it were alone.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import orjson

from ollama_fleet.router.errors import FramingError
from ollama_fleet.router.framing import parse_response
from ollama_fleet.router.sharing import Counts, Shares
from ollama_fleet.router.snapshot import Fleet

log = logging.getLogger(__name__)

PATH = b"/inflight"
INTERVAL = 0.2
WAITING_INTERVAL = 0.05
SHORTEST_INTERVAL = 0.02
ANSWER_SECONDS = 0.5
MAX_BYTES = 8 << 20

Address = tuple[str, int]


class Replicas:
    """Keeps `shares` up to date while there are other replicas.

    `waiting` gives the requests that wait here, by model; `news` is called after each round.
    """

    def __init__(
        self,
        fleet: Fleet,
        shares: Shares,
        waiting: Callable[[], dict[str, int]],
        news: Callable[[], None],
    ) -> None:
        self._fleet = fleet
        self._shares = shares
        self._waiting = waiting
        self._news = news
        self._peers: dict[Address, _Peer] = {}
        self._now = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None

    def want(self, addresses: Iterable[Address]) -> None:
        """Ask exactly these; one of them may be this replica itself."""
        wanted = set(addresses)
        for address in self._peers.keys() - wanted:
            peer = self._peers.pop(address)
            peer.close()
            self._shares.forget(peer.name)
        for address in wanted - self._peers.keys():
            self._peers[address] = _Peer(address)
        if self._peers and self._rounds is None:
            self._rounds = asyncio.get_running_loop().create_task(self._run())

    def ask_now(self) -> None:
        """A request waits for nothing but the next round."""
        self._now.set()

    def told(self) -> bytes:
        """What the others are answered."""
        servers = [
            (server.endpoint.url, server.load.models)
            for server in self._fleet.snapshot.servers
            if server.load.in_flight
        ] + [(url, load.models) for url, load in self._fleet.left]
        return orjson.dumps(
            {"replica": self._shares.own, "inFlight": dict(servers), "waiting": self._waiting()}
        )

    async def close(self) -> None:
        """Ask nobody any more."""
        rounds, self._rounds = self._rounds, None
        if rounds is not None:
            rounds.cancel()
            await asyncio.wait((rounds,))
        self.want(())

    async def _run(self) -> None:
        while True:
            self._now.clear()
            await asyncio.gather(*(self._ask(peer) for peer in list(self._peers.values())))
            self._shares.take_over(self._fleet.snapshot, asyncio.get_running_loop().time())
            self._news()
            await asyncio.sleep(SHORTEST_INTERVAL)
            pause = WAITING_INTERVAL if self._waiting() else INTERVAL
            try:
                async with asyncio.timeout(pause - SHORTEST_INTERVAL):
                    await self._now.wait()
            except TimeoutError:
                continue

    async def _ask(self, peer: "_Peer") -> None:
        now = asyncio.get_running_loop().time()  # what is told may be as old as the question
        if peer.itself or now < peer.rest_until:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                name, counts = await peer.ask()
        except (OSError, ValueError, FramingError, asyncio.IncompleteReadError) as error:
            if not peer.silent:
                log.info("replica %s:%d tells nothing: %s", *peer.address, error or "timed out")
            peer.silent = True
            peer.rest_until = now + ANSWER_SECONDS
            peer.close()
            return
        peer.silent = False
        if name == self._shares.own:
            peer.itself = True
            peer.close()
        elif peer.address in self._peers:
            peer.name = name
            self._shares.told(name, counts, now)


class _Peer:
    """One address, and a connection there that is kept."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = ""
        self.itself = False
        self.silent = False
        self.rest_until = 0.0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> tuple[str, Counts]:
        """Its name and counts; raises OSError, ValueError, FramingError or IncompleteReadError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self.address)
        reader, writer = self._streams
        host, port = self.address
        shown = f"[{host}]" if ":" in host else host
        writer.write(b"GET %s HTTP/1.1\r\nhost: %s:%d\r\n\r\n" % (PATH, shown.encode(), port))
        try:
            response = parse_response(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            raise ValueError("its answer's head is too long") from None
        length = response.length
        if response.status != 200 or length is None or length > MAX_BYTES:
            raise ValueError(f"status {response.status}, {length} bytes")
        return _counts(await reader.readexactly(length))

    def close(self) -> None:
        """End the connection."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()


def _counts(body: bytes) -> tuple[str, Counts]:
    told: Any = orjson.loads(body)
    try:
        in_flight = {
            str(url): {str(model): int(count) for model, count in models.items()}
            for url, models in told["inFlight"].items()
        }
        waiting = {str(model): int(count) for model, count in told["waiting"].items()}
        return str(told["replica"]), Counts(in_flight, waiting)
    except (AttributeError, KeyError, TypeError):
        raise ValueError("its answer is of another version") from None


def new_name() -> str:
    """A name for this replica, which no other has."""
    return uuid4().hex
