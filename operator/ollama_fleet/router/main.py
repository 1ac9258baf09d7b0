"""`ollama-fleet-router`: one endpoint in front of many Ollama servers."""

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path

import uvloop

from ollama_fleet.kube.client import Kube
from ollama_fleet.kube.errors import KubeError
from ollama_fleet.router import COMPILED
from ollama_fleet.router.alone import Following, checked, say_who_answers, url_of
from ollama_fleet.router.config import ConfigError, load, settings_of
from ollama_fleet.router.discovery import Discovery
from ollama_fleet.router.files import Files
from ollama_fleet.router.server import Router
from ollama_fleet.router.settings import Settings

log = logging.getLogger("ollama_fleet.router")


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    arguments = _arguments()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for name in ("httpx2", "httpcore2", "kubernetes"):  # the last shows whole answers: Secrets too
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        files = Files(arguments.keys, arguments.tls_cert, arguments.tls_key)
        settings = load(arguments.config) if arguments.config else settings_of({})
        files.check(settings)
        if arguments.check:
            print(checked(arguments.config, settings))  # noqa: T201
            return
        uvloop.run(_run(arguments, settings, files))
    except (ConfigError, KubeError, OSError) as error:
        print(f"ollama-fleet-router: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


async def _run(arguments: argparse.Namespace, settings: Settings, files: Files) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    router = Router(settings)
    if arguments.console:
        router.hand_on(arguments.console)
    if arguments.config:
        router.configure(settings)
        router.fleet.want(settings.backends)
    else:
        router.waiting_for = "Kubernetes"
    try:
        files.read(router)
        tls = arguments.tls or arguments.tls_cert is not None
        listening = router.listen(arguments.host, arguments.port, tls=tls)
        port = await _free(arguments.port, listening)
        form = "compiled" if COMPILED else "interpreted"
        log.info("serving on %s port %d, %s", arguments.host, port, form)
        if arguments.metrics_port >= 0:
            wanted = arguments.metrics_port
            listening = router.listen_for_operators(arguments.host, wanted)
            operators_port = await _free(wanted, listening, "--metrics-port")
            log.info("health and metrics on %s port %d", arguments.host, operators_port)
        await _until_stopped(arguments, router, files, stop, port)
        cut = await router.drain(arguments.drain_pause, arguments.drain_timeout)
        log.info("done; %d requests were cut off", cut)
    finally:
        await router.close()


async def _free(port: int, listening: Awaitable[int], option: str = "--port") -> int:
    try:
        return await listening
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        told = f"port {port} is taken, perhaps by an Ollama: choose another with {option}"
        raise ConfigError(told) from None


async def _until_stopped(
    arguments: argparse.Namespace, router: Router, files: Files, stop: asyncio.Event, port: int
) -> None:
    if not arguments.router:
        following = Following(router, arguments.config, files.settings)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, following.reload)
        url = url_of(arguments.host, port, tls=arguments.tls_cert is not None)
        tasks = [
            asyncio.create_task(following.run()),
            asyncio.create_task(files.follow(router)),
            asyncio.create_task(say_who_answers(router, url)),
        ]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return
    async with await Kube.connect() as kube:
        discovery = Discovery(kube, router, arguments.namespace, arguments.router)
        watching = asyncio.create_task(discovery.run())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
        watching.cancel()
        await asyncio.wait((watching,))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ollama-fleet-router", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, help="YAML with the fields of a Router's spec")
    source.add_argument("--router", help="name of a Router, found by KUBECONFIG or in the cluster")
    parser.add_argument(
        "--check", action="store_true", help="read the file of --config, say what is wrong, and end"
    )
    parser.add_argument("--namespace", default="default", help="of the Router; default: default")
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
    parser.add_argument(
        "--tls", action="store_true", help="serve HTTPS with the Secret that the Router names"
    )
    parser.add_argument(
        "--console", metavar="URL", help="of the console that the fleet API is handed on to"
    )
    beside = parser.add_argument_group("with --config", "files, taken over when they change")
    beside.add_argument(
        "--keys", type=Path, help="who may ask: YAML, or a folder, with an entry for each client"
    )
    beside.add_argument("--tls-cert", type=Path, help="serve HTTPS with this certificate (PEM)")
    beside.add_argument("--tls-key", type=Path, help="and its private key (PEM)")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    if given.router and (given.keys or given.tls_cert or given.tls_key):
        parser.error("--keys, --tls-cert and --tls-key are for --config: a Router names Secrets")
    if given.config and given.tls:
        parser.error("--tls is for --router: with --config give --tls-cert and --tls-key")
    if (given.tls_cert is None) != (given.tls_key is None):
        parser.error("give both --tls-cert and --tls-key")
    if given.check and not given.config:
        parser.error("--check is for --config: the API server checks a Router")
    return given


if __name__ == "__main__":
    main()
