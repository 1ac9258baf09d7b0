"""Make ready what the tests run against: Kubernetes, the real Ollama, helm. Cached once made."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from dev import chart, conformity, promtool
from dev.cluster import ClusterError, binary
from dev.ollama import binary as ollama


def main() -> int:
    """Find or make each; one line says where it is, or what is missing."""

    def say(line: str) -> None:
        print(f"  {line}", flush=True)

    try:
        steps: dict[str, Callable[[], Path]] = {
            "Kubernetes": lambda: binary.find(say).directory,
            "Ollama": ollama.ensure,
            "helm": lambda: chart.find_helm(say),
            "kubeconform": lambda: conformity.find_kubeconform(say),
        }
        for name, find in steps.items():
            began = time.monotonic()
            print(f"{name}: {find()} ({time.monotonic() - began:.0f} s)", flush=True)
    except (ClusterError, ollama.CannotBuild) as error:
        print(f"tools: {error}", file=sys.stderr)
        return 1
    try:
        for program in ("promtool", "prometheus"):
            print(f"{program}: {promtool.ensure(program=program)}", flush=True)
    except promtool.NoPromtool as error:
        print(f"Prometheus: not here, so a few tests are skipped; {error}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
