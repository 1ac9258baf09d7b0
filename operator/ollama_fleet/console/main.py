"""`ollama-fleet-console`: how people and programs see and drive the fleet."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import uvloop

from ollama_fleet.api.quantity import seconds_of
from ollama_fleet.console import progress
from ollama_fleet.console.app import Api, Parts
from ollama_fleet.console.fleet import Settings
from ollama_fleet.console.identity import Identity
from ollama_fleet.console.metrics import Metrics
from ollama_fleet.console.models import Models
from ollama_fleet.console.offers import NAME, Offers, offers
from ollama_fleet.console.patience import Protocol
from ollama_fleet.console.recent import Recent
from ollama_fleet.console.store import Store
from ollama_fleet.console.traffic import Traffic
from ollama_fleet.kube import ConfigError, Kube
from ollama_fleet.serving.options import add_mirror, argument, count, mirror, own_namespace
from ollama_fleet.serving.server import listen, serve

log = logging.getLogger("ollama_fleet.console")

_OFFERS_BELIEVED = 10.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    given = parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if given.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # some of these show whole answers, or tokens
    for name in ("httpx2", "httpcore2", "asyncio", "kubernetes", "aiohttp", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        uvloop.run(_run(given))
    except (ConfigError, OSError) as error:
        print(f"ollama-fleet-console: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


async def _run(given: argparse.Namespace) -> None:
    async with await Kube.connect() as kube:
        store = Store(given.namespace or ())
        store.on_change(progress.tell)
        store.start(kube)
        recent = Recent(given.namespace or (), store.wake)
        recent.start(kube)
        traffic = Traffic(kube, given.namespace or (), store.wake)
        settings = Settings(given.register_in, timedelta(seconds=given.offline_after))
        parts = Parts(
            store,
            Identity(kube, given.anonymous),
            Models(mirror(given)),
            _Catalogue(kube, given.own_namespace, given.catalogue).offers,
            settings,
            lambda: datetime.now(UTC),
            Metrics(),
            traffic,
            recent,
        )
        try:
            await _serve(given, parts)
        finally:
            await traffic.stop()
            await recent.stop()
            await store.stop()


async def _serve(given: argparse.Namespace, parts: Parts) -> None:
    with listen(given.host, given.port) as listening:
        log.info("serving on %s port %d", *listening.getsockname()[:2])
        if given.anonymous:
            log.warning("whoever reaches this port may look at the fleet (--anonymous)")
        await serve(Api(parts).routes(), listening, given.connections, Protocol)


class _Catalogue:
    """The models on offer, asked for once in a while."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._found: Offers | None = None
        self._until = 0.0

    async def offers(self) -> Offers:
        """What is on offer."""
        now = asyncio.get_running_loop().time()
        if self._found is None or self._until <= now:
            self._found = await offers(self._kube, self._namespace, self._name)
            self._until = now + _OFFERS_BELIEVED
        return self._found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="ollama-fleet-console",
        description=__doc__,
        epilog="Connects by KUBECONFIG, or else by the pod's service account.",
    )
    env = os.environ.get
    own = own_namespace()
    add = parser.add_argument
    add(
        "--namespace",
        action="append",
        metavar="NAME",
        help="show this namespace only (repeatable); without it, the whole cluster",
    )
    add(
        "--own-namespace",
        metavar="NAME",
        default=own,
        help="where the catalogue's ConfigMap is (POD_NAMESPACE; %(default)s)",
    )
    add(
        "--register-in",
        metavar="NAME",
        default=env("OLLAMA_FLEET_REGISTER_IN") or own,
        help="where machines that register become OllamaNodes, unless they say another namespace "
        "(OLLAMA_FLEET_REGISTER_IN; %(default)s)",
    )
    add(
        "--anonymous",
        action="store_true",
        help="let those look, and change nothing, who send no token",
    )
    add(
        "--offline-after",
        type=argument(_period),
        default="60s",
        metavar="TIME",
        help="without a report for this long, a machine that reports is offline (%(default)s)",
    )
    add(
        "--catalogue",
        metavar="NAME",
        default=NAME,
        help="the ConfigMap with more models on offer (%(default)s)",
    )
    add_mirror(parser, "to ask about models")
    add("--connections", type=count, default=2048, help="of clients at once; default 2048")
    add("--host", default=env("OLLAMA_FLEET_HOST") or "0.0.0.0")  # noqa: S104
    add("--port", type=int, default=8080, help="default 8080; 0 picks one")
    add("--verbose", action="store_true")
    return parser


def _period(text: str) -> float:
    seconds = seconds_of(text)
    if seconds < 1:
        raise ValueError("too short: give 1s or more")
    return seconds


if __name__ == "__main__":
    main()
