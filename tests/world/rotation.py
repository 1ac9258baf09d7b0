"""Keys, tokens and authorities that are exchanged for others under traffic."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

import httpx2

from tests.cluster.waiting import eventually
from tests.world.ground import World
from tests.world.measure import Fault

_UNUSED = 10.0
"""Seconds without which a token counts as forgotten."""


def _forgotten(world: World, token: str) -> bool:
    return time.monotonic() - world.front.last.get(token, 0.0) > _UNUSED


@contextmanager
def token(world: World) -> Iterator[None]:
    """A server elsewhere takes two tokens until everybody shows the new one."""
    (old,) = world.front.tokens
    world.front.tokens = {old, old + "'"}
    world.box(old + "'", world.front.authority)
    eventually("nobody shows the old one", partial(_forgotten, world, old))
    world.front.tokens = {old + "'"}
    yield


@contextmanager
def token_at_once(world: World) -> Iterator[None]:
    """It takes another token at once; the Secret follows when that has been told."""
    (old,) = world.front.tokens
    world.front.tokens = {old + "'"}
    yield
    world.box(old + "'", world.front.authority)


@contextmanager
def authority_at_once(world: World) -> Iterator[None]:
    """Another authority vouches for it at once; the Secret follows when that has been told."""
    (held,) = world.front.tokens
    authority = world.front.renew()
    yield
    world.box(held, authority)


@contextmanager
def authority(world: World) -> Iterator[None]:
    """Both authorities are trusted until its certificate is the new one's."""
    (held,) = world.front.tokens
    old = world.front.authority
    new = world.front.draft()
    world.box(held + "+", old + new)
    world.front.tokens = {held, held + "+"}
    eventually("all have read the Secret", partial(_forgotten, world, held))
    world.front.tokens = {held + "+"}
    world.front.serve_draft()
    world.box(held + "+", new)
    yield


def _taken(world: World, key: str) -> list[int]:
    """What each router answers to a client with that key."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(verify=False, trust_env=False, headers=headers) as client:
        return [client.get(f"{url}/api/tags").status_code for url in world.routers()]


@contextmanager
def keys(world: World) -> Iterator[None]:
    """Clients get other keys; the router takes both until the last of them has one."""
    old, new = world.key, world.key + "'"
    world.keys(old, new)
    eventually("both are taken", lambda: _taken(world, new) == [200, 200])
    assert world.flow is not None
    world.key = world.flow.key = new
    world.flow.goes_on()
    world.keys(new)
    eventually("one is taken", lambda: _taken(world, old) == [401, 401])
    yield


def _served(world: World) -> set[str]:
    """The certificates of the routers."""
    places = [urlsplit(url) for url in world.routers()]
    return {ssl.get_server_certificate((str(one.hostname), one.port or 443)) for one in places}


@contextmanager
def certificate(world: World) -> Iterator[None]:
    """The routers' certificate is replaced by one of another authority."""
    before = _served(world)
    world.certify()
    eventually("all serve the new one", lambda: not before & _served(world))
    yield


FAULTS = (
    Fault("token of a server", token, seconds=10),
    Fault("token, unannounced", token_at_once, says="OllamaNode/box: .*401"),
    Fault("authority of a server", authority, seconds=10),
    Fault("authority, unannounced", authority_at_once, says="OllamaNode/box: .*certificate"),
    Fault("keys of clients", keys),
    Fault("certificate of routers", certificate),
)
