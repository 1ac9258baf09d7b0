"""What a simulated machine is made of, and the Kubernetes node it registers as."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dev.machines.quantity import in_bytes

ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), "amd64")
VENDORS = ("nvidia", "amd", "none")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MIB = 1024**2
_GIB = 1024**3


@dataclass(frozen=True)
class Machine:
    """One machine; `gpu_memory` is per GPU, in bytes.

    `resources` is what else it has to give, such as `nvidia.com/mig-1g.10gb`; with
    `nvidia.com/gpu: 0` its GPUs are to be had in no other way. `labels` come on top of those that
    discovery sets. One whose `kubelet` is "silent" runs its pods on, but is not heard of; one
    that is "off" has lost its power, and its node and pods are still in the API.

    Raises ValueError with what is wrong and what to write instead.
    """

    name: str
    gpus: int = 1
    gpu_memory: int = 0
    vendor: str = "nvidia"
    labels: Mapping[str, str] = field(default_factory=dict)
    cpus: int = 32
    memory: int = 256 * _GIB
    resources: Mapping[str, str] = field(default_factory=dict)
    kubelet: Literal["on", "silent", "off"] = "on"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"a machine cannot be called {self.name!r}; use a-z, 0-9 and -, like gpu-48g"
            )
        if self.vendor not in VENDORS:
            raise ValueError(f"no such vendor: {self.vendor!r}; one of {', '.join(VENDORS)}")
        if self.vendor != "none" and (self.gpus < 1 or self.gpu_memory < _MIB):
            raise ValueError(
                f"{self.name} needs at least one GPU with memory, like --gpu-memory 48Gi;"
                " for a machine without one write --vendor none"
            )

    @property
    def resource(self) -> str | None:
        """The extended resource its GPUs are counted in."""
        return None if self.vendor == "none" else f"{self.vendor}.com/gpu"

    def save(self, directory: Path) -> None:
        """Write it to `<directory>/<name>.json` in one step."""
        directory.mkdir(parents=True, exist_ok=True)
        draft = directory / f".{self.name}"
        draft.write_text(json.dumps(asdict(self)))
        draft.rename(directory / f"{self.name}.json")

    def capacity(self) -> dict[str, str]:
        """The node's capacity, as Kubernetes writes quantities."""
        amounts = {"cpu": str(self.cpus), "memory": str(self.memory), "pods": "110"}
        amounts["ephemeral-storage"] = str(1024 * _GIB)
        if self.resource:
            amounts[self.resource] = str(self.gpus)
        return amounts | dict(self.resources)

    @property
    def whole_gpus(self) -> int:
        """How many GPUs are handed out whole."""
        return int(self.capacity().get(self.resource, 0)) if self.resource else 0

    def memory_of(self, resource: str) -> int:
        """Bytes of GPU memory in one of an extended resource."""
        if resource == self.resource:
            return self.gpu_memory
        name, labels = resource.removesuffix(".shared"), self.node_labels()
        mps = labels.get(f"{name}.sharing-strategy") == "mps"
        shares = int(labels[f"{name}.replicas"]) if mps else 1
        return int(labels.get(f"{name}.memory", 0)) * _MIB // shares

    def node_labels(self) -> dict[str, str]:
        """The labels a kubelet, and the vendor's GPU discovery, would set."""
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": ARCHITECTURE,
        }
        if self.vendor == "nvidia":
            labels |= _nvidia_labels(self.gpus, self.gpu_memory)
        elif self.vendor == "amd":
            labels |= {"amd.com/gpu.family": "AI", "amd.com/gpu.product-name": "Simulated"}
            # where cards differ, the labeller counts each size under a label of its own
            if not any(label.startswith("amd.com/gpu.vram.") for label in self.labels):
                labels["amd.com/gpu.vram"] = f"{self.gpu_memory // _GIB}G"
        return labels | dict(self.labels)


def _nvidia_labels(gpus: int, memory: int) -> dict[str, str]:
    return {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": str(gpus),
        "nvidia.com/gpu.memory": str(memory // _MIB),
        "nvidia.com/gpu.product": f"Simulated-{memory // _GIB}GB",
        "nvidia.com/gpu.family": "ampere",
        "nvidia.com/gpu.compute.major": "8",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/mig.capable": "false",
        "nvidia.com/mig.strategy": "single",
    }


def turned(directory: Path, name: str) -> Path:
    """Where the agent notes what a machine's kubelet is by now, once that was changed."""
    return directory / f".{name}.kubelet"


def load(path: Path) -> Machine:
    """Read what `Machine.save` wrote."""
    document: dict[str, Any] = json.loads(path.read_text())
    return Machine(**document)


def load_all(directory: Path) -> dict[str, Machine]:
    """All machines in a directory, by name."""
    machines = (load(path) for path in sorted(directory.glob("[!.]*.json")))
    return {machine.name: machine for machine in machines}


DEFAULT = tuple(Machine(f"gpu-{size}g", gpu_memory=in_bytes(f"{size}Gi")) for size in (24, 12, 6))
