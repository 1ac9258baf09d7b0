"""Prometheus' own checker of metrics: the one on PATH, or one unpacked once from Debian's package.

The package is not installed, as that would start a Prometheus on this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path


class NoPromtool(Exception):  # noqa: N818
    """There is none, and none to be had here."""


def find(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where it is; None: nowhere."""
    if found := shutil.which("promtool", path=environment.get("PATH")):
        return Path(found)
    cached = _cache(environment) / "promtool"
    return cached if os.access(cached, os.X_OK) else None


def ensure(environment: Mapping[str, str] = os.environ) -> Path:
    """Where it is, after unpacking it if need be; raises NoPromtool."""
    if (found := find(environment)) is not None:
        return found
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoPromtool("put Prometheus' promtool on PATH")
    cache = _cache(environment)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix="promtool-") as name:
        _run(["apt-get", "download", "--quiet", "prometheus"], name)
        (package,) = Path(name).glob("*.deb")
        _run(["dpkg-deb", "--extract", package.name, "unpacked"], name)
        cache.mkdir(exist_ok=True)
        (Path(name) / "unpacked/usr/bin/promtool").replace(cache / "promtool")
    return cache / "promtool"


def _run(command: list[str], directory: str) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NoPromtool(f"put Prometheus' promtool on PATH ({said})")


def _cache(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or "~") / ".cache"
    return Path(home).expanduser() / "ollama-fleet" / "promtool"
