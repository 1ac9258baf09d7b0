"""What can be set of the router."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ollama_fleet.api.access import SecretRefs
from ollama_fleet.router.aliases import Alias
from ollama_fleet.router.errors import Api
from ollama_fleet.router.options import Policy
from ollama_fleet.router.snapshot import Endpoint


@dataclass(frozen=True, slots=True)
class Settings:
    """What the router does, in seconds and bytes; a timeout of 0 is none."""

    connect: float
    first_byte: float
    idle: float
    total: float
    attempts: int
    retry_on: frozenset[str]
    interval: float
    probe_timeout: float
    offline_after: float
    failures: int
    cooldown: float
    max_cooldown: float
    body_bytes: int
    header_bytes: int
    connections: int
    apis: frozenset[Api]
    strategy: str = "LeastLoad"
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    """By lookup key."""
    policy: Policy = field(default_factory=Policy)
    queue_size: int = 512
    queue_timeout: float = 60.0
    per_server: int = 0
    """Requests for a model at a server at a time; 0: as many as the server answers."""
    access_log: bool = False
    backends: tuple[Endpoint, ...] = field(default=())
    backend_secrets: tuple[SecretRefs, ...] = ()
    """The Secrets that each of the backends is reached by."""
    keys_secret: str | None = None
    """The Secret with its clients' keys."""
    anonymous: bool | None = None
    """Whether those without a key may ask too; None: nothing is said of who may."""
    tls_secret: str | None = None
    """The Secret with its certificate."""
    fleet_api: bool = False
    """Whether the fleet API is handed on to the console."""
    replicas: int = 1
    """How many routers share what a client may."""

    @property
    def guarded(self) -> bool:
        """Whether it matters who asks."""
        return self.keys_secret is not None or self.anonymous is False
