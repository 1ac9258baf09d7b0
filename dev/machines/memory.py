"""Memory limits: a container that holds more than it may is killed, as the kernel would."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dev.machines.containers import Container
from dev.machines.pods import Pod
from dev.machines.quantity import in_bytes

_EVERY = 0.5  # seconds
_PAGE = os.sysconf("SC_PAGE_SIZE")


async def enforce(pods: Callable[[], list[Pod]]) -> None:
    """Look at all containers with a limit, for ever."""
    while True:
        limited = [
            (container, limit)
            for pod in pods()
            for container in [*pod.main, *pod.initial]
            if "running" in container.state and (limit := _limit(container))
        ]
        if limited:
            used = _used()
            for container, limit in limited:
                if container.process and used[container.process.pid] > limit:
                    container.killed_for_memory = True
                    container.process.kill_group()
        await asyncio.sleep(_EVERY)


def _limit(container: Container) -> int:
    """In bytes; 0 for none."""
    limits = (container.spec.get("resources") or {}).get("limits") or {}
    return in_bytes(str(limits.get("memory") or 0))


def _used() -> Counter[int]:
    """Bytes of memory that is no file's, by the session (that is, the container) they are in."""
    used: Counter[int] = Counter()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in parentheses may hold anything; state, parent, group, session follow.
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                _, resident, shared, *_ = (entry / "statm").read_text().split()
                used[session] += (int(resident) - int(shared)) * _PAGE
    return used
