"""Finds the control plane: named, cached, downloaded, or built.

Asked in this order: the directory in OLLAMA_FLEET_CONTROLPLANE; the cache; the official releases
(OLLAMA_FLEET_KUBERNETES_MIRROR and OLLAMA_FLEET_ETCD_MIRROR name other places to fetch them
from); a build of dev/controlplane with Go.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import gobuild, releases
from dev.cluster.errors import ClusterError

KUBERNETES = "v1.36.3"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
SOURCE = Path(__file__).resolve().parent.parent / "controlplane"

_DRAFT = ".making-"

Say = Callable[[str], None]


@dataclass(frozen=True)
class ControlPlane:
    """A directory with the five programs, or with the one file that is all of them."""

    directory: Path

    def path(self, program: str) -> Path:
        """The program's own file, or the file that is all five."""
        own = self.directory / program
        return own if own.exists() else self.directory / "controlplane"

    def command(self, program: str) -> list[str]:
        """How to start one program, before its arguments."""
        path = self.path(program)
        return [str(path)] if path.name == program else [str(path), program]

    def missing(self) -> list[str]:
        """The programs that cannot be run from here."""
        return [name for name in PROGRAMS if not os.access(self.path(name), os.X_OK)]


def find(say: Say) -> ControlPlane:
    """Return the control plane, making it first if need be; `say` gets a line per step.

    Raises ClusterError where it can neither be found nor made.
    """
    if named := os.environ.get("OLLAMA_FLEET_CONTROLPLANE"):
        return _named(Path(named))
    cache = cache_directory()
    found = ControlPlane(cache)
    if not found.missing():
        return found
    with _lock(cache.with_name(cache.name + ".lock"), say):
        if found.missing():
            _make(cache, say)
    return found


def cache_directory() -> Path:
    """Where the control plane is kept, named after its version and source."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    digest = hashlib.sha256()
    for name in ("main.go", "go.mod", "go.sum"):
        digest.update((SOURCE / name).read_bytes())
    name = f"controlplane-{KUBERNETES}-{digest.hexdigest()[:12]}"
    return Path(home).expanduser() / "ollama-fleet" / name


def _named(directory: Path) -> ControlPlane:
    found = ControlPlane(directory)
    if missing := found.missing():
        raise ClusterError(
            f"OLLAMA_FLEET_CONTROLPLANE={directory} has no {', '.join(missing)}. Name a directory"
            f" with {', '.join(PROGRAMS)}, or unset it."
        )
    return found


def _make(cache: Path, say: Say) -> None:
    """Fill the cache in one step, from the releases or else by a build."""
    for left in cache.parent.glob(f"{_DRAFT}*"):
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=cache.parent))
    try:
        try:
            releases.download(work, KUBERNETES, say)
            reason = ""
        except releases.UnavailableError as error:
            reason = str(error)
        if reason:
            say(f"no Kubernetes {KUBERNETES} to download ({reason}); building it from source")
            gobuild.build(SOURCE, work / "controlplane", KUBERNETES, cache.parent, say)
        if missing := ControlPlane(work).missing():
            raise ClusterError(f"the control plane was made without {', '.join(missing)}")
        work.chmod(0o755)
        shutil.rmtree(cache, ignore_errors=True)
        work.rename(cache)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _lock(path: Path, say: Say) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that is making the control plane")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
