"""The memory of the fleet's programs over time."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.scale.costs import rss
from dev.cluster import Cluster

PROGRAMS = ("operator", "console", "router")
SPARE = 5.0
"""MiB that the last third may be over the middle one beside a tenth."""


@dataclass
class Memory:
    """MiB by program and moment; of a program of several replicas, the largest."""

    cluster: Cluster
    began: float = field(default_factory=time.monotonic)
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    restarts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _pids: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def look(self) -> dict[str, float]:
        """Take a sample of each program that runs."""
        found: dict[str, float] = {}
        for program in PROGRAMS:
            now = self._running(program)
            if now.keys() - self._pids[program] and self._pids[program]:
                self.restarts[program] += len(now.keys() - self._pids[program])
            self._pids[program] |= now.keys()
            if now:
                found[program] = max(now.values())
                self.samples[program].append((time.monotonic() - self.began, found[program]))
        return found

    def _running(self, program: str) -> dict[int, float]:
        found = {}
        pattern = {
            "operator": "ollama-fleet_ollama-fleet-[0-9a-f]*",
            "console": "ollama-fleet_ollama-fleet-console-*",
            "router": "*_chat-router-*",
        }[program]
        for path in (self.cluster.directory / "pods").glob(f"{pattern}/*.pid"):
            if program == "operator" and "console" in path.parent.name:
                continue
            try:
                pid = int(path.read_text())
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"ollama-fleet-" in line or b"ollama_fleet" in line:
                    found[pid] = rss(pid)
            except (OSError, ValueError, IndexError):
                continue
        return found

    def thirds(self, program: str) -> tuple[float, float, float]:
        """The means of the first, the middle and the last third of the time."""
        samples = self.samples[program]
        end = samples[-1][0]
        means = []
        for third in range(3):
            within = [
                value for at, value in samples if third * end / 3 <= at <= (third + 1) * end / 3
            ]
            means.append(sum(within) / len(within) if within else float("nan"))
        return means[0], means[1], means[2]

    def slope(self, program: str) -> float:
        """MiB an hour, over the last two thirds."""
        end = self.samples[program][-1][0]
        points = [one for one in self.samples[program] if one[0] >= end / 3]
        mean_at = sum(at for at, _ in points) / len(points)
        mean = sum(value for _, value in points) / len(points)
        over = sum((at - mean_at) ** 2 for at, _ in points)
        return 3600 * sum((at - mean_at) * (v - mean) for at, v in points) / over if over else 0.0

    def flat(self, program: str) -> bool:
        """Whether the last third is at most a tenth and SPARE over the middle one."""
        _, middle, last = self.thirds(program)
        return last <= 1.1 * middle + SPARE
