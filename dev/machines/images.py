"""Which program an image stands for: the images that simulated machines can run.

`…/ollama/ollama` is a real Ollama or its emulator, `…/ollama-fleet` our own programs, and
`local/python` the Python that runs this. All programs must listen on their pod's own address,
where a container would listen on 0.0.0.0; each image says how its programs are told.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.machines.environment import Mounts, WaitingError
from dev.ollama import server_command

_REPOSITORY = Path(__file__).resolve().parent.parent.parent
_BIN = Path(sys.executable).parent
_REFERENCE = re.compile(
    r"(?P<name>[a-z0-9._:/-]+?)(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@sha256:[0-9a-f]{64})?"
)
_OLLAMA_PORT = 11434


@dataclass(frozen=True)
class Place:
    """Where a container's process finds itself: `gpu_memory` is what it was granted, in bytes."""

    address: str
    home: Path
    mounts: Mounts
    gpu_memory: int


@dataclass(frozen=True)
class Program:
    """A command line and the whole environment it runs in."""

    command: list[str]
    environment: dict[str, str]


def resolve(
    image: str,
    command: Sequence[str],
    arguments: Sequence[str],
    variables: Mapping[str, str],
    place: Place,
) -> Program:
    """What to run for an image; WaitingError where no such image exists."""
    found = _REFERENCE.fullmatch(image)
    if not found:
        raise WaitingError("InvalidImageName", f'couldn\'t parse image name "{image}"')
    environment = {
        "PATH": f"{_BIN}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(place.home),
        "TMPDIR": str(place.home / "tmp"),
        "PYTHONUNBUFFERED": "1",
    }
    repository = found["name"]
    if repository.endswith("ollama/ollama"):
        return _ollama(command, arguments, {**environment, **variables}, place)
    if repository.rsplit("/", 1)[-1] == "ollama-fleet":
        environment["OLLAMA_FLEET_HOST"] = place.address
        return Program(_required(image, [*command, *arguments]), {**environment, **variables})
    if repository.removeprefix("docker.io/") == "local/python":
        line = [*(command or [sys.executable]), *arguments]
        return Program(line, {**environment, **variables})
    raise WaitingError(
        "ErrImagePull",
        f'failed to pull image "{image}": simulated machines run ollama/ollama, ollama-fleet and'
        " local/python alone",
    )


def _required(image: str, line: list[str]) -> list[str]:
    if not line:
        raise WaitingError("CreateContainerError", f"no command specified for image {image}")
    return line


def _ollama(
    command: Sequence[str], arguments: Sequence[str], environment: dict[str, str], place: Place
) -> Program:
    """`ollama serve` on the pod's address, with its models in the pod's volume."""
    port = environment.get("OLLAMA_HOST", "").rpartition(":")[2]
    environment["OLLAMA_HOST"] = f"{place.address}:{port if port.isdigit() else _OLLAMA_PORT}"
    environment["OLLAMA_MODELS"] = str(_models(environment.get("OLLAMA_MODELS"), place))
    environment["HOME"] = str(place.home)
    environment["EMULATOR_GPU_MEMORY"] = str(place.gpu_memory)
    environment["PYTHONPATH"] = str(_REPOSITORY)
    line = [*(command or ["/bin/ollama"]), *(arguments or ([] if command else ["serve"]))]
    if Path(line[0]).name == "ollama" and line[1:] == ["serve"]:
        # The binary is looked for where this machine keeps it, not in the pod's home.
        chosen = {key: environment[key] for key in environment if key.startswith("OLLAMA_FLEET_")}
        line = server_command({**os.environ, **chosen})
    return Program(line, environment)


def _models(declared: str | None, place: Place) -> Path:
    """Where the models lie: OLLAMA_MODELS, else the volume on a `.ollama` folder, else home."""
    if declared and Path(declared).exists():
        return Path(declared)
    for folder in place.mounts.folders.values():
        if declared and Path(declared).is_relative_to(folder):
            return Path(declared)
    if declared:
        return place.home / declared.lstrip("/")
    for mount, folder in place.mounts.folders.items():
        if mount.endswith("/.ollama/models"):
            return folder
        if mount.endswith("/.ollama"):
            return folder / "models"
    return place.home / ".ollama" / "models"
