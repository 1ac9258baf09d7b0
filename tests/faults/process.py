"""Operators as processes that may be killed, forked from one that has everything imported."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["tests.faults.process", "ollama_fleet.controllers.main", "ollama_fleet.kube.transport"]
)


class OperatorProcess:
    """An operator of a run's own: started, killed, and started again."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._given = (list(arguments), dict(environment), log)
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        self._process = _context.Process(target=_operate, args=self._given, daemon=True)
        self._process.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; SIGKILL unless another is named."""
        if self._process is not None and self._process.pid is not None and self.runs:
            os.kill(self._process.pid, number)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def join(self) -> None:
        """Wait for its end."""
        if self._process is not None:
            self._process.join()
            self._process.close()
            self._process = None


def _operate(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    from ollama_fleet.controllers.main import main

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    sys.exit(main(arguments))
