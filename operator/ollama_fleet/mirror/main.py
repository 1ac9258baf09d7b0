"""`ollama-fleet-mirror`: a model registry that fetches each blob once for the whole fleet."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from ollama_fleet.api.names import DEFAULT_HOST
from ollama_fleet.api.quantity import bytes_of, gib, seconds_of
from ollama_fleet.mirror.app import App
from ollama_fleet.mirror.blobs import Blobs
from ollama_fleet.mirror.credentials import Credentials, CredentialsError
from ollama_fleet.mirror.manifests import Manifests
from ollama_fleet.mirror.metrics import Metrics
from ollama_fleet.mirror.store import Store
from ollama_fleet.mirror.upstream import Upstream
from ollama_fleet.serving.options import argument, count
from ollama_fleet.serving.server import listen, serve

log = logging.getLogger("ollama_fleet.mirror")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if given.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for name in ("httpx2", "httpcore2", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # an answer that ends early is told in our own words
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing response" not in record.getMessage()
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        credentials = Credentials(given.credentials)
        credentials.read()
        uvloop.run(_run(given, credentials))
    except (CredentialsError, OSError) as error:
        print(f"ollama-fleet-mirror: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


async def _run(given: argparse.Namespace, credentials: Credentials) -> None:
    metrics = Metrics()
    store = await asyncio.to_thread(Store, given.directory, given.size, metrics.evictions.inc)
    registries = dict(given.registry or (_registry(DEFAULT_HOST), _registry("hf.co")))
    async with Upstream(registries, credentials) as upstream:
        manifests = Manifests(given.directory, upstream, metrics, given.manifest_age, store.limit)
        blobs = Blobs(store, upstream, metrics, given.downloads, manifests.size_of)
        with listen(given.host, given.port) as listening:
            log.info("serving on %s port %d", *listening.getsockname()[:2])
            log.info(
                "holding %s of %s, for %s", gib(store.used), gib(store.limit), ", ".join(registries)
            )
            app = App(store, manifests, blobs, metrics).routes()
            await serve(app, listening, given.connections)
        await blobs.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ollama-fleet-mirror", description=__doc__)
    add = parser.add_argument
    add("--directory", type=Path, required=True, help="where blobs and manifests are kept")
    add(
        "--size",
        type=argument(bytes_of),
        required=True,
        metavar="QUANTITY",
        help="bytes of blobs to keep at most, like 500Gi; what was longest unused goes first",
    )
    add(
        "--registry",
        type=argument(_registry),
        action="append",
        metavar="HOST",
        help="a registry to serve (repeatable), http://HOST for plain HTTP; without it, "
        f"{DEFAULT_HOST} and hf.co",
    )
    add(
        "--credentials",
        type=Path,
        metavar="FILE",
        help="for private registries: a docker config.json, read again when it changes",
    )
    add(
        "--manifest-age",
        type=argument(seconds_of),
        default=60.0,
        metavar="DURATION",
        help="how long a manifest is served without asking the registry again; default 60s",
    )
    add("--downloads", type=count, default=16, help="from registries at once; default 16")
    add("--connections", type=count, default=4096, help="of clients at once; default 4096")
    add("--host", default=os.environ.get("OLLAMA_FLEET_HOST", "0.0.0.0"))  # noqa: S104
    add("--port", type=int, default=5000, help="default 5000; 0 picks one")
    add("--verbose", action="store_true")
    return parser


def _registry(text: str) -> tuple[str, str]:
    """A registry's host and base URL."""
    base = (text if "://" in text else f"https://{text}").rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path:
        raise ValueError(f"{text!r} is no registry: write registry.lan:5000, or http:// before it")
    return parts.netloc.lower(), base


if __name__ == "__main__":
    main()
