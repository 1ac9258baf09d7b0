"""A conversation goes where it went before, unless that server has more than its share: consistent
hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam: arXiv:1608.01350). Pure."""

from collections.abc import Sequence
from math import ceil
from typing import Final

from ollama_fleet.router.ring import Ring
from ollama_fleet.router.snapshot import Server, in_flight

LOAD_FACTOR: Final = 1.25


def by_conversation(servers: Sequence[Server], model: str, ring: Ring, key: int) -> Server:
    """The one of `servers` that `key` leads to on the `ring`, passing over those at their bound.

    Somebody is below it: the bounds sum up to more than all requests.
    """
    if len(servers) == 1:
        return servers[0]
    total = 1 + sum(in_flight(server, model) for server in servers)
    weights = sum(server.endpoint.weight for server in servers)
    below = {
        server.endpoint.name: server
        for server in servers
        if in_flight(server, model) < bound(server, total, weights, len(servers))
    }
    found = ring.find(key, below)
    assert found is not None
    return found


def bound(server: Server, total: int, weights: int, count: int) -> int:
    """How many of `total` requests for a model `server` takes, one of `count` that weigh `weights`
    together: 125 % of its share by weight, and always as many as it answers at a time.

    While it has a free slot, going elsewhere gains nothing and loses what it remembers.
    """
    share = server.endpoint.weight / weights if weights else 1 / count
    return max(server.endpoint.parallel, ceil(LOAD_FACTOR * total * share))
