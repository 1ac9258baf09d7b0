"""What pods use, as a metrics server tells it: the API metrics.k8s.io, to be aggregated."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dev.machines.apiserver import Object
from dev.machines.containers import now
from dev.machines.pods import Pod

GROUP_VERSION = "metrics.k8s.io/v1beta1"
ROOT = f"/apis/{GROUP_VERSION}"
_WINDOW = 2.0  # seconds between two looks at /proc, at least
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class _Look:
    """Seconds of CPU and resident bytes by session (that is, by container) at one moment."""

    at: float
    cpu: dict[int, float]
    memory: dict[int, int]


class Meter:
    """Answers requests for metrics; between two looks it gives the same again."""

    def __init__(self, pods: Callable[[], list[Pod]]) -> None:
        self._pods = pods
        self._before = self._latest = _look()

    def answer(self, path: str, selector: str) -> Object | None:
        """The JSON at a path below ROOT; None where there is nothing."""
        if path == ROOT:
            resource = {
                "name": "pods",
                "singularName": "",
                "namespaced": True,
                "kind": "PodMetrics",
                "verbs": ["get", "list"],
            }
            kind = {"kind": "APIResourceList", "apiVersion": "v1"}
            return {**kind, "groupVersion": GROUP_VERSION, "resources": [resource]}
        parts = path.removeprefix(ROOT).strip("/").split("/")
        namespace = parts[1] if parts[0] == "namespaces" and len(parts) >= 3 else ""
        if parts[-1] == "pods":
            self._refresh()
            items = [
                self._metrics(pod)
                for pod in self._pods()
                if namespace in ("", pod.namespace) and _selected(pod, selector)
            ]
            known = [item for item in items if item["containers"]]
            return {"kind": "PodMetricsList", "apiVersion": GROUP_VERSION, "items": known}
        for pod in self._pods():
            if parts[2:] == ["pods", pod.name] and pod.namespace == namespace:
                self._refresh()
                return {"kind": "PodMetrics", "apiVersion": GROUP_VERSION, **self._metrics(pod)}
        return None

    def _refresh(self) -> None:
        if time.monotonic() - self._latest.at >= _WINDOW:
            self._before, self._latest = self._latest, _look()

    def _metrics(self, pod: Pod) -> Object:
        seconds = max(_WINDOW, self._latest.at - self._before.at)
        containers = []
        for container in pod.main:
            session = container.process.pid if container.process else 0
            if session not in self._latest.memory:
                continue  # not yet looked at
            before, after = (look.cpu.get(session, 0.0) for look in (self._before, self._latest))
            usage = {
                "cpu": f"{max(0, int((after - before) / seconds * 1e9))}n",
                "memory": f"{self._latest.memory[session] // 1024}Ki",
            }
            containers.append({"name": container.name, "usage": usage})
        meta = pod.object["metadata"]
        return {
            "metadata": {key: meta[key] for key in ("name", "namespace", "labels") if key in meta},
            "timestamp": now(),
            "window": f"{seconds:.0f}s",
            "containers": containers,
        }


def _selected(pod: Pod, selector: str) -> bool:
    """Whether a pod has the labels of a selector like ``a=b,c``."""
    labels = pod.object["metadata"].get("labels") or {}
    pairs = (one.partition("=") for one in selector.split(",") if one)
    return all(
        name in labels and (not equals or labels[name] == value.lstrip("="))
        for name, equals, value in pairs
    )


def _look() -> _Look:
    cpu: dict[int, float] = {}
    memory: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in parentheses may hold anything; state, parent, group, session follow.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                session = int(fields[3])
                cpu[session] = cpu.get(session, 0.0) + sum(map(int, fields[11:13])) / _TICKS
                resident = int((entry / "statm").read_text().split()[1])
                memory[session] = memory.get(session, 0) + resident * _PAGE
    return _Look(time.monotonic(), cpu, memory)
