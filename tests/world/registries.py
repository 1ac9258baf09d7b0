"""A registry that lies, stands still, or hangs up, in the middle of a pull."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from tests.world.ground import World
from tests.world.measure import Fault

_HALF = 16_000_000
"""Bytes after which it goes wrong."""


@contextmanager
def _going_wrong(kind: str, count: int, world: World) -> Iterator[None]:
    """The next downloads do, each in its middle."""
    world.registry.fault(kind, count, _HALF)
    try:
        world.begin_pull()
        yield
    finally:
        world.registry.mend()


def _strike(kind: str, count: int) -> Callable[[World], AbstractContextManager[None]]:
    return partial(_going_wrong, kind, count)


FAULTS = (
    Fault("registry lies", _strike("wrong_bytes", 2), says="digest mismatch", pulling=False,
          pulled=2 * 32e6),
    Fault("registry stalls", _strike("stall", 2), seconds=20, pulling=False),
    Fault("registry resets", _strike("reset", 4), seconds=20, pulling=False),
    Fault("registry truncates", _strike("truncate", 4), seconds=20, pulling=False),
    Fault("registry answers 500", _strike("error", 4), seconds=20, pulling=False),
)  # fmt: skip
