"""`ollama-fleet-router`: one endpoint in front of many Ollama servers."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop

from ollama_fleet.router.config import ConfigError, Settings, load
from ollama_fleet.router.server import Router

log = logging.getLogger("ollama_fleet.router")


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    arguments = _arguments()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    try:
        settings = load(arguments.config)
        uvloop.run(_run(arguments, settings))
    except (ConfigError, OSError) as error:
        print(f"ollama-fleet-router: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


async def _run(arguments: argparse.Namespace, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    router = Router(settings)
    router.configure(settings)
    router.fleet.want(settings.backends)
    try:
        port = await router.listen(arguments.host, arguments.port)
        log.info("serving on %s port %d", arguments.host, port)
        if arguments.metrics_port >= 0:
            port = await router.listen_for_operators(arguments.host, arguments.metrics_port)
            log.info("health and metrics on %s port %d", arguments.host, port)
        await stop.wait()
        cut = await router.drain(arguments.drain_pause, arguments.drain_timeout)
        log.info("done; %d requests were cut off", cut)
    finally:
        await router.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ollama-fleet-router", description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="YAML with the fields of a Router's spec"
    )
    parser.add_argument("--host", default=os.environ.get("OLLAMA_FLEET_HOST", "0.0.0.0"))  # noqa: S104
    parser.add_argument("--port", type=int, default=11434, help="default 11434; 0 picks one")
    parser.add_argument(
        "--metrics-port", type=int, default=9090, help="default 9090; 0 picks one, -1 is none"
    )
    parser.add_argument(
        "--drain-pause", type=float, default=5.0, help="seconds of accepting after SIGTERM"
    )
    parser.add_argument(
        "--drain-timeout", type=float, default=300.0, help="seconds for requests under way"
    )
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
