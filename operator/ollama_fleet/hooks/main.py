"""The command `ollama-fleet-hook`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from ollama_fleet.api.quantity import seconds_of
from ollama_fleet.hooks.removal import remove
from ollama_fleet.hooks.trial import Trial, attempt
from ollama_fleet.hooks.waiting import HookFailed
from ollama_fleet.kube import Kube, KubeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one hook; the process's exit code."""
    given = parser().parse_args(arguments)
    try:
        said = asyncio.run(_run(given))
    except (HookFailed, KubeError) as error:
        print(f"ollama-fleet-hook {given.hook}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(said)  # noqa: T201
    return 0


async def _run(given: argparse.Namespace) -> str:
    async with await Kube.connect() as kube:
        if given.hook == "remove":
            await remove(kube, tuple(given.namespace or ()), given.within)
            return "no fleet is left"
        trial = Trial(given.namespace, given.model, given.ollamanode, given.router)
        return f"{given.model} answers: {await attempt(kube, trial, given.within)}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="ollama-fleet-hook",
        description="What the chart runs beside its programs.",
        epilog="Connects by KUBECONFIG, or else by the pod's service account.",
    )
    hooks = parser.add_subparsers(dest="hook", required=True, metavar="HOOK")
    test = hooks.add_parser("test", help="make a small fleet, chat with it, and delete it")
    test.add_argument("--namespace", metavar="NAME", required=True, help="where")
    test.add_argument("--model", metavar="NAME", required=True, help="which it pulls and asks")
    test.add_argument(
        "--ollamanode", type=_object, default={}, metavar="JSON", help="the spec of its OllamaNode"
    )
    test.add_argument(
        "--router", type=_object, default={}, metavar="JSON", help="the spec of its Router"
    )
    out = hooks.add_parser("remove", help="delete every fleet, and wait until all of it is gone")
    out.add_argument(
        "--namespace",
        action="append",
        metavar="NAME",
        help="in this namespace only (repeatable); without it, in the whole cluster",
    )
    for hook in (test, out):
        hook.add_argument(
            "--within", type=_span, default="10m", metavar="TIME", help="give up then (%(default)s)"
        )
    return parser


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text} is no object: write {{}}")
    return found


def _span(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
