"""`ollama-fleet-agent`: makes a machine outside Kubernetes part of a fleet."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

from ollama_fleet.agent.agent import Agent, GaveUp, Surroundings
from ollama_fleet.agent.coordinator import Coordinator, CoordinatorError
from ollama_fleet.agent.machine import Load, address_towards
from ollama_fleet.agent.settings import Settings, read

log = logging.getLogger("ollama_fleet.agent")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    given = None if arguments is None else list(arguments)
    settings = read(given, os.environ, socket.gethostname() or "localhost")
    logging.basicConfig(
        level=logging.DEBUG if settings.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # they would show headers
    for name in ("httpx2", "httpcore2", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        asyncio.run(_run(settings))
    except (CoordinatorError, OSError) as error:
        _end(str(error), 2)
    except GaveUp as error:
        _end(str(error), 1)


def _end(sentence: str, status: int) -> None:
    print(f"ollama-fleet-agent: {sentence}", file=sys.stderr)  # noqa: T201
    raise SystemExit(status) from None


async def _run(settings: Settings) -> None:
    coordinator = Coordinator(settings.url, settings.token_file, settings.ca_file)
    coordinator.check()
    log.info(
        "%s joins %s with the Ollama at port %d",
        settings.machine_name,
        settings.url,
        settings.port,
    )
    if settings.token_file and settings.in_clear:
        log.warning("the token is sent in clear to %s: use https", settings.url)
    if settings.pull_timeout:
        log.warning(
            "OLLAMA_PULL_TIMEOUT_SECS has no effect: the fleet pulls, and gives up what stands "
            "still for a ModelDistribution's stallTimeout"
        )
    here = Surroundings(
        Load(),
        dict(os.environ),
        lambda: address_towards(settings.host, settings.host_port),
    )
    agent = Agent(settings, coordinator, here)
    running = asyncio.create_task(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        # its OllamaNode has settings and models that a restart must not cost
        stays = f"agent {agent.agent_id} stays registered" if agent.agent_id else "not registered"
        log.info("stopped; %s", stays)


if __name__ == "__main__":
    main()
