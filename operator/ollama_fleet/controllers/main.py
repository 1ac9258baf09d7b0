"""The command `ollama-fleet-operator`."""

import argparse
import asyncio
import os
import socket
from collections.abc import Sequence
from uuid import uuid4

from ollama_fleet.api.quantity import seconds_of
from ollama_fleet.controllers.context import Settings
from ollama_fleet.controllers.logs import set_up
from ollama_fleet.controllers.program import Operator, Options
from ollama_fleet.controllers.reconcilers import build
from ollama_fleet.serving.options import add_mirror, mirror, own_namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the operator; the process's exit code."""
    options = parser().parse_args(arguments)
    set_up(options.log_format, options.log_level)
    return asyncio.run(_run(options))


async def _run(given: argparse.Namespace) -> int:
    settings = Settings(
        namespace=given.own_namespace,
        deployment=given.own_deployment,
        namespaces=tuple(dict.fromkeys(given.namespace or ())),
        image=given.image,
        router_cluster_role=given.router_cluster_role,
        router_role=given.router_role,
        console=given.console,
        mirror=mirror(given),
        probe_interval=given.probe_interval,
        offline_after=given.offline_after,
        resync_interval=given.resync_interval,
        max_parallel_pulls=given.max_parallel_pulls,
    )
    options = Options(given.host, given.port, given.leader_elect, _identity(), settings)
    return await Operator(options, build).run()


def _identity() -> str:
    """The pod's name, so that a container that was killed leads again at once when it restarts;
    a pod has one of them at a time. Outside a pod, a name of this process's own."""
    return os.environ.get("POD_NAME") or f"{socket.gethostname()}_{uuid4().hex[:12]}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="ollama-fleet-operator",
        description="Keeps OllamaNodes, ModelDistributions and Routers as they are specified.",
        epilog="Connects by KUBECONFIG, or else by the pod's service account.",
    )
    env = os.environ.get
    add = parser.add_argument
    add(
        "--namespace",
        action="append",
        metavar="NAME",
        help="serve this namespace only (repeatable); without it, the whole cluster",
    )
    add(
        "--own-namespace",
        metavar="NAME",
        default=own_namespace(),
        help="where the leader's Lease lives (POD_NAMESPACE; %(default)s)",
    )
    add(
        "--own-deployment",
        metavar="NAME",
        default=env("OLLAMA_FLEET_DEPLOYMENT") or "",
        help="with which that Lease goes (OLLAMA_FLEET_DEPLOYMENT)",
    )
    add(
        "--leader-elect",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="reconcile only while holding the Lease",
    )
    add(
        "--host",
        default=env("OLLAMA_FLEET_HOST") or "0.0.0.0",  # noqa: S104 (the kubelet probes it)
        help="address of /healthz, /readyz and /metrics (OLLAMA_FLEET_HOST; %(default)s)",
    )
    add("--port", type=_port, default=8080, help="and their port (%(default)s)")
    add(
        "--image",
        default=env("OLLAMA_FLEET_IMAGE") or "",
        help="the image routers run (OLLAMA_FLEET_IMAGE)",
    )
    add(
        "--router-cluster-role",
        default=env("OLLAMA_FLEET_ROUTER_CLUSTER_ROLE") or "ollama-fleet-router",
        metavar="NAME",
        help="the ClusterRole routers are bound to (OLLAMA_FLEET_ROUTER_CLUSTER_ROLE; %(default)s)",
    )
    add(
        "--router-role",
        default=env("OLLAMA_FLEET_ROUTER_ROLE") or "",
        metavar="NAME",
        help="a Role in each namespace to bind routers to instead (OLLAMA_FLEET_ROUTER_ROLE)",
    )
    add(
        "--console",
        default=env("OLLAMA_FLEET_CONSOLE") or "",
        metavar="URL",
        help="where the console answers, for routers with spec.fleetApi (OLLAMA_FLEET_CONSOLE)",
    )
    add(
        "--probe-interval",
        type=_span,
        default="30s",
        metavar="TIME",
        help="between looks at a server that is well, such as 30s (%(default)s)",
    )
    add(
        "--offline-after",
        type=_span,
        default="60s",
        metavar="TIME",
        help="without an answer for this long, a server is Offline (%(default)s)",
    )
    add(
        "--resync-interval",
        type=_span,
        default="5m",
        metavar="TIME",
        help="between lists of everything, which find what watches missed (%(default)s)",
    )
    add(
        "--max-parallel-pulls",
        type=_count_or_auto,
        default="Auto",
        metavar="COUNT",
        help="pulls at once over all ModelDistributions, which share them; Auto: one for 10 "
        "servers, 16 at least (%(default)s)",
    )
    add_mirror(parser, "that servers pull through")
    add(
        "--log-format",
        choices=("auto", "text", "json"),
        default="auto",
        help="auto: text on a terminal, JSON elsewhere",
    )
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 0 to 65535")
    return int(text)


def _count_or_auto(text: str) -> int | None:
    if text == "Auto":
        return None
    if not text.isdigit() or not 1 <= int(text) <= 10000:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no count: give a number from 1 to 10000, or Auto"
        )
    return int(text)


def _span(text: str) -> float:
    try:
        seconds = seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"{text} is too short: give 1s or more")
    return seconds
