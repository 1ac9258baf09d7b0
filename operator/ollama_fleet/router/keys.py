"""Keys: whose a request is."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ollama_fleet.api.keys import Client, Clients
from ollama_fleet.router.fields import Field
from ollama_fleet.router.names import lookup_key
from ollama_fleet.router.quota import Limits


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what it may."""

    name: str
    models: frozenset[str] | None
    """Lookup keys; None: every model."""
    limits: Limits
    weight: float

    def may_use(self, key: str, behind: Collection[str] = ()) -> bool:
        """Whether a lookup key is among its models, or stands for such models alone."""
        if self.models is None or key in self.models:
            return True
        return bool(behind) and self.models.issuperset(behind)


ANONYMOUS: Final = Caller("", None, Limits(), 1.0)


class Keys:
    """The callers by their keys' digests."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._callers: dict[bytes, Caller] = {}

    def take(self, found: Clients, replicas: int) -> None:
        """Go by these from now on.

        An entry that can no longer be read stays as it was while it still holds the digest of its
        key: a slip of the pen locks nobody out, and whoever spoils the digest does.
        """
        kept = {
            name: client
            for name, client in self._clients.items()
            if name in found.faults and client.sha256 in found.faults[name].text.lower()
        }
        taken = {client.sha256 for client in found.good.values()}
        self._clients = dict(found.good) | {
            name: client for name, client in kept.items() if client.sha256 not in taken
        }
        self.share(replicas)

    def share(self, replicas: int) -> None:
        """From now on so many routers share the limits."""
        self._callers = {
            bytes.fromhex(client.sha256): _caller(name, client, replicas)
            for name, client in self._clients.items()
        }

    @property
    def names(self) -> frozenset[str]:
        """The clients' names."""
        return frozenset(self._clients)

    def find(self, fields: Iterable[Field]) -> tuple[Caller | None, bool]:
        """Whose key a request has, and whether it has one at all.

        What is looked up is the digest of what was sent. How long that takes may tell of the
        digests stored, yet nobody can choose a text by the beginning of its digest, nor come from
        a digest to its key: keys are compared nowhere, so there is no time to learn one from.
        """
        presented = False
        for name, value in fields:
            if name == b"authorization":
                scheme, _, key = value.partition(b" ")
                if scheme.lower() != b"bearer":
                    continue
            elif name == b"x-api-key":
                key = value
            else:
                continue
            key = key.strip()
            if not key:
                continue
            presented = True
            caller = self._callers.get(sha256(key).digest())
            if caller is not None:
                return caller, True
        return None, presented


def _caller(name: str, client: Client, replicas: int) -> Caller:
    models = None if client.models is None else frozenset(map(lookup_key, client.models))
    limits = Limits(client.requests_per_minute, client.tokens_per_minute, client.max_concurrent)
    return Caller(name, models, limits.shared(replicas), client.weight)
