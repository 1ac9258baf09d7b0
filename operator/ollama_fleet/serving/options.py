"""Options that several programs have."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.names import DEFAULT_HOST, InvalidModelName, ModelName

T = TypeVar("T")

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def argument(read: Callable[[str], T]) -> Callable[[str], T]:
    """A reader whose complaints (ValueError) argparse shows."""

    def told(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return told


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no count: give a number of at least 1")
    return int(text)


def own_namespace() -> str:
    """Where the program runs: as its environment says, or else as its service account does."""
    told = os.environ.get("POD_NAMESPACE")
    if told or not _POD_NAMESPACE.exists():
        return told or "default"
    return _POD_NAMESPACE.read_text().strip()


def add_mirror(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Options that say where the fleet's mirror is, and what it serves."""
    env = os.environ.get
    parser.add_argument(
        "--mirror",
        default=env("OLLAMA_FLEET_MIRROR") or "",
        type=argument(_host),
        metavar="HOST:PORT",
        help=f"the mirror {purpose}, in plain HTTP (OLLAMA_FLEET_MIRROR)",
    )
    parser.add_argument(
        "--mirror-registry",
        default=env("OLLAMA_FLEET_MIRROR_REGISTRIES") or f"{DEFAULT_HOST},hf.co",
        metavar="HOST,…",
        help="the registries it serves (OLLAMA_FLEET_MIRROR_REGISTRIES; %(default)s)",
    )


def mirror(given: argparse.Namespace) -> Mirror | None:
    """The mirror that they name, if any."""
    if not given.mirror:
        return None
    return Mirror(given.mirror, frozenset(given.mirror_registry.lower().split(",")))


def _host(text: str) -> str:
    try:
        return ModelName.parse(f"{text}/library/any").host if text else ""
    except InvalidModelName:
        raise ValueError(f"{text!r} is no address: write mirror.models.svc:5000") from None
