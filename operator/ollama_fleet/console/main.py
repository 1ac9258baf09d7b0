"""`ollama-fleet-console`: how people and programs see and drive the fleet."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
import uvloop

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.names import DEFAULT_HOST
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

log = logging.getLogger("ollama_fleet.console")

_GOODBYE = 5
_OFFERS_BELIEVED = 10.0
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    given = parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if given.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # some of these show whole answers, or tokens
    for name in ("httpx", "httpcore", "asyncio", "kubernetes", "aiohttp", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        uvloop.run(_run(given))
    except (ConfigError, OSError) as error:
        print(f"ollama-fleet-console: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


async def _run(given: argparse.Namespace) -> None:
    mirror = Mirror(given.mirror, frozenset(given.mirror_registry.lower().split(",")))
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
            Models(mirror if given.mirror else None),
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
    config = uvicorn.Config(
        Api(parts).routes(),
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=given.connections,
        timeout_graceful_shutdown=_GOODBYE,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    with socket.create_server((given.host, given.port), backlog=1024) as listening:
        log.info("serving on %s port %d", *listening.getsockname()[:2])
        if given.anonymous:
            log.warning("whoever reaches this port may look at the fleet (--anonymous)")
        await server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: uvicorn would end the process by the one it got."""
        yield


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
    own = env("POD_NAMESPACE") or _pod_namespace()
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
        type=_seconds,
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
    add(
        "--mirror",
        default=env("OLLAMA_FLEET_MIRROR") or "",
        metavar="HOST:PORT",
        help="the mirror to ask about models, in plain HTTP (OLLAMA_FLEET_MIRROR)",
    )
    add(
        "--mirror-registry",
        default=env("OLLAMA_FLEET_MIRROR_REGISTRIES") or f"{DEFAULT_HOST},hf.co",
        metavar="HOST,…",
        help="the registries it serves (OLLAMA_FLEET_MIRROR_REGISTRIES; %(default)s)",
    )
    add("--connections", type=_count, default=2048, help="of clients at once; default 2048")
    add("--host", default=env("OLLAMA_FLEET_HOST") or "0.0.0.0")  # noqa: S104
    add("--port", type=int, default=8080, help="default 8080; 0 picks one")
    add("--verbose", action="store_true")
    return parser


def _pod_namespace() -> str:
    return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.exists() else "default"


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no count: give a number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return _at_least_one(seconds_of(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _at_least_one(seconds: float) -> float:
    if seconds < 1:
        raise ValueError("too short: give 1s or more")
    return seconds


if __name__ == "__main__":
    main()
