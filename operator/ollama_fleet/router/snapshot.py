"""What the router knows of its servers: immutable facts, replaced whole when one changes."""

import ssl
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, NamedTuple

from ollama_fleet.api.tls import trust
from ollama_fleet.router.breaker import Breaker
from ollama_fleet.router.ring import Ring, ring_of

MAX_IN_FLIGHT: Final = 512
DEPARTED_SECONDS: Final = 600.0
HEARD_SECONDS: Final = 60.0
MEND_SECONDS: Final = 15.0


class State(Enum):
    """Whether a server may be given requests."""

    STARTING = "Starting"
    READY = "Ready"
    DRAINING = "Draining"
    OFFLINE = "Offline"


READY: Final = State.READY  # a member is looked up slowly on its class


class Loaded(NamedTuple):
    """A model in memory: bytes of the GPU's memory, or of the machine's where it uses no GPU, and
    when it leaves if it is not used (Unix seconds)."""

    size: int
    leaves: float


class Load:
    """What one server is doing right now; the only mutable part.

    `in_flight` and `models` count this router's own requests; `elsewhere` and `others` are the same
    of its other replicas, as they last told, and `before` what `models` was then. `running` is what
    the server said of its models in memory when it was last probed (`/api/ps`), `memory` what that
    means. All but that is changed by the relay alone. `loading` are models that a request has to
    wait for, since when on the loop's clock; `pace` is how long it takes for what takes the usual
    server 1. `heard` is when a model last sent a byte, `wedged` since when
    one does not answer any more.
    """

    __slots__ = (
        "_most",
        "_new_breaker",
        "before",
        "breaker",
        "busy_until",
        "elsewhere",
        "faults",
        "heard",
        "in_flight",
        "loading",
        "memory",
        "models",
        "others",
        "pace",
        "running",
        "served",
        "wedged",
    )

    def __init__(self, new_breaker: Callable[[], Breaker]) -> None:
        self._new_breaker = new_breaker
        self.in_flight = 0
        self.models: dict[str, int] = {}
        self.elsewhere = 0
        self.others: dict[str, int] = {}
        self.before: dict[str, int] = {}
        self.running: Sequence[Mapping[str, object]] = ()
        self.served = 0
        self.busy_until = 0.0
        self.breaker = new_breaker()
        self.faults: dict[str, Breaker] = {}
        self.heard: dict[str, float] = {}
        self.wedged: dict[str, float] = {}
        self.loading: dict[str, float] = {}
        self.memory: Mapping[str, Loaded] = {}
        self._most = 0
        self.pace = 1.0

    def remembers(self, memory: Mapping[str, Loaded]) -> None:
        """What is in memory now."""
        self.memory = memory
        self._most = max(self._most, self._used)

    @property
    def room(self) -> int:
        """Bytes that are free now and have been in use: what fits there evicts nothing."""
        return self._most - self._used

    @property
    def _used(self) -> int:
        return sum(loaded.size for loaded in self.memory.values())

    def fault(self, model: str) -> Breaker:
        """The breaker for one model's own errors, such as a load that always fails."""
        found = self.faults.get(model)
        if found is None:
            found = self.faults[model] = self._new_breaker()
        return found

    def retune(self, failures: int, cooldown: float, max_cooldown: float) -> None:
        """Have every breaker go by other numbers."""
        for breaker in (self.breaker, *self.faults.values()):
            breaker.retune(failures, cooldown, max_cooldown)

    def succeeded(self, model: str) -> None:
        """The server answered, and `model` works there."""
        if self.breaker.row:
            self.breaker.succeeded()
        if self.faults:
            self.faults.pop(model, None)

    def acquire(self, model: str) -> None:
        """A request for `model` is sent."""
        self.in_flight += 1
        self.models[model] = self.models.get(model, 0) + 1

    def release(self, model: str) -> None:
        """It is over."""
        self.in_flight -= 1
        left = self.models[model] - 1
        if left:
            self.models[model] = left
        else:
            del self.models[model]
            if self.loading:
                self.loading.pop(model, None)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to reach a server and how to count it.

    `headers` are its own credentials, `secret` the name of the Secret they are from, `ca` the
    authorities (PEM) that sign its certificate where not every system trusts them, `prefix` a path
    that comes before every other, `held` a state imposed from outside, `pins` the only digests that
    some models may have there.
    """

    name: str
    host: str
    port: int
    weight: int = 100
    parallel: int = 1
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    tls: bool = False
    ca: str | None = field(default=None, repr=False)
    prefix: str = ""
    held: State | None = None
    pins: tuple[tuple[str, str], ...] = ()
    secret: str = ""

    @property
    def url(self) -> str:
        """The server's URL, without a slash at the end."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"

    @property
    def authority(self) -> str:
        """Host and port, as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def trust(self) -> ssl.SSLContext:
        """TLS that takes the server's certificate and no other."""
        return ssl.create_default_context() if self.ca is None else trust(self.ca)


@dataclass(frozen=True, slots=True)
class Model:
    """An installed model: its entry of `/api/tags`, under its canonical name."""

    name: str
    digest: str
    entry: Mapping[str, object] = field(default_factory=dict, compare=False)

    @property
    def size(self) -> int:
        """Bytes of its files; 0 where the server does not tell."""
        size = self.entry.get("size")
        return size if isinstance(size, int) else 0


@dataclass(frozen=True, slots=True)
class Server:
    """One server as last observed.

    `loaded` are the models in memory, `resident` those of them that no CPU slows down, `missed`
    the probes in a row without an answer.
    """

    endpoint: Endpoint
    load: Load = field(compare=False)
    state: State = State.STARTING
    version: str = ""
    installed: Mapping[str, Model] = field(default_factory=dict)
    loaded: frozenset[str] = frozenset()
    resident: frozenset[str] = frozenset()
    missed: int = 0

    @property
    def name(self) -> str:
        """The server's name."""
        return self.endpoint.name

    @property
    def withheld(self) -> frozenset[str]:
        """The installed models that get no requests: they have another digest than is pinned."""
        return frozenset(
            name
            for name, digest in self.endpoint.pins
            if name in self.installed and _hex(self.installed[name].digest) != _hex(digest)
        )

    @property
    def offered(self) -> dict[str, Model]:
        """The installed models that may get requests."""
        withheld = self.withheld
        return {name: model for name, model in self.installed.items() if name not in withheld}


def in_flight(server: Server, model: str) -> int:
    """Requests for the model that the server is working on, those of other replicas included."""
    load = server.load
    own = load.models.get(model, 0)
    return own + load.others.get(model, 0) if load.others else own


def _hex(digest: str) -> str:
    """Ollama lists digests without their algorithm."""
    return digest.removeprefix("sha256:")


def _name(server: Server) -> str:
    return server.name


def _place(name: str, servers: Sequence[Server]) -> int:
    """Where a server of that name is, or would be."""
    return bisect_left(servers, name, key=_name)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every server, by canonical name which of them offer a model, and what some withhold; servers
    are in the order of their names everywhere."""

    servers: tuple[Server, ...] = ()
    holders: Mapping[str, tuple[Server, ...]] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()
    _rings: dict[str, Ring] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, servers: Iterable[Server]) -> "Snapshot":
        """Index `servers` by what they offer."""
        ordered = tuple(sorted(servers, key=lambda server: server.name))
        holders: dict[str, list[Server]] = {}
        for server in ordered:
            for name in server.offered:
                holders.setdefault(name, []).append(server)
        return cls(
            ordered,
            {name: tuple(found) for name, found in holders.items()},
            frozenset().union(*(server.withheld for server in ordered)),
        )

    def having(self, server: Server) -> "Snapshot":
        """The same with something else known of one of its servers, at the same endpoint.

        It costs what that server's models do, as every probe of a large fleet may find something.
        """
        place = _place(server.name, self.servers)
        known = self.servers[place]
        before, after = known.offered, server.offered
        holders = dict(self.holders)
        for model in {**before, **after}:
            found = holders.get(model, ())
            at = _place(server.name, found)
            here = (server,) if model in after else ()
            found = (*found[:at], *here, *found[at + (model in before) :])
            if found:
                holders[model] = found
            else:
                del holders[model]
        servers = (*self.servers[:place], server, *self.servers[place + 1 :])
        withheld = self.withheld
        if known.withheld != server.withheld:
            withheld = frozenset().union(*(one.withheld for one in servers))
        moved = before.keys() ^ after.keys()
        rings = {model: ring for model, ring in self._rings.items() if model not in moved}
        return Snapshot(servers, holders, withheld, rings)

    def ring(self, model: str) -> Ring:
        """The servers that offer a model, on a ring; made when first asked for."""
        ring = self._rings.get(model)
        if ring is None:
            servers = self.holders.get(model, ())
            ring = ring_of(tuple((one.name, one.endpoint.weight) for one in servers))
            self._rings[model] = ring
        return ring

    @property
    def ready(self) -> tuple[Server, ...]:
        """The servers that may be given requests."""
        return tuple(server for server in self.servers if server.state is State.READY)


class Fleet:
    """The current snapshot, and the one place where it is replaced.

    A server that is replaced comes back with its models, so the models of one that has left are
    not unknown for a while.
    """

    def __init__(self, new_breaker: Callable[[], Breaker], clock: Callable[[], float]) -> None:
        self._new_breaker = new_breaker
        self._clock = clock
        self._departed: dict[str, float] = {}
        self._left: list[tuple[str, Load]] = []
        self._servers: dict[str, Server] = {}
        self._following: list[Callable[[Snapshot], None]] = []
        self._listening: list[Callable[[], None]] = []
        self.snapshot = Snapshot()

    def on_want(self, listener: Callable[[Snapshot], None]) -> None:
        """Call `listener` when other servers are wanted, or at other endpoints."""
        self._following.append(listener)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change, after those of `on_want`."""
        self._listening.append(listener)

    def get(self, name: str) -> Server | None:
        """The server called `name`."""
        return self._servers.get(name)

    @property
    def left(self) -> list[tuple[str, Load]]:
        """URLs of servers that are wanted no longer and still answer requests, with their load."""
        self._left = [(url, load) for url, load in self._left if load.in_flight]
        return self._left

    def heard(self, load: Load) -> list[str]:
        """The models that a server has answered with within the last minute."""
        now = self._clock()
        return sorted(model for model, at in load.heard.items() if now - at < HEARD_SECONDS)

    def wedged(self, load: Load) -> list[str]:
        """The models that a server does not answer with any more, though mending it was tried."""
        now = self._clock()
        return sorted(model for model, at in load.wedged.items() if now - at >= MEND_SECONDS)

    def want(self, endpoints: Iterable[Endpoint]) -> None:
        """Route to exactly these servers; what is known of those that stay is kept."""
        wanted = {endpoint.name: endpoint for endpoint in endpoints}
        servers = {
            name: self._wanted(endpoint, self._servers.get(name))
            for name, endpoint in wanted.items()
        }
        if servers != self._servers:
            for name, known in self._servers.items():
                if name not in servers or servers[name].load is not known.load:
                    self._departed |= dict.fromkeys(known.installed, self._clock())
                    self._left = [*self.left, (known.endpoint.url, known.load)]
            self._servers = servers
            self.snapshot = Snapshot.of(servers.values())
            for listener in self._following:
                listener(self.snapshot)
            self._changed()

    def expects(self, model: str) -> bool:
        """Whether a server that had `model` has left within the last minutes."""
        left = self._departed.get(model)
        return left is not None and self._clock() - left < DEPARTED_SECONDS

    def _wanted(self, endpoint: Endpoint, known: Server | None) -> Server:
        if known is None or known.endpoint.url != endpoint.url:
            known = Server(endpoint, Load(self._new_breaker))
        state = known.state
        if endpoint.held is not None:
            state = endpoint.held
        elif known.endpoint.held is not None:
            state = State.STARTING
        return replace(known, endpoint=endpoint, state=state)

    def observe(self, server: Server) -> None:
        """Take over what a probe found, unless the server is no longer wanted or has moved."""
        known = self._servers.get(server.name)
        if known is None or known.load is not server.load:
            return
        state = known.endpoint.held or server.state
        server = replace(server, endpoint=known.endpoint, state=state)
        if server != known:
            self._replace(server)

    def learned_resident(self, name: str, model: str) -> None:
        """A server has just answered with `model`, so it is loaded there."""
        known = self._servers.get(name)
        if known is not None and model not in known.loaded:
            loaded, resident = known.loaded | {model}, known.resident | {model}
            self._replace(replace(known, loaded=loaded, resident=resident))

    def _replace(self, server: Server) -> None:
        self._servers[server.name] = server
        self.snapshot = self.snapshot.having(server)
        self._changed()

    def _changed(self) -> None:
        for listener in self._listening:
            listener()
