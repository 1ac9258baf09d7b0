"""Downloads the official release programs and checks them against their published SHA-256."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import platform
import tarfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

ETCD = "v3.6.8"
_KUBERNETES_MIRROR = "https://dl.k8s.io"
_ETCD_MIRROR = "https://github.com/etcd-io/etcd/releases/download"
_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
_PATIENCE = 3.0  # seconds for a connection, and for each read
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class UnavailableError(Exception):
    """Why the releases cannot be used, in one line."""


def download(directory: Path, version: str, say: Callable[[str], None]) -> None:
    """Put the four Kubernetes programs and etcd into `directory`.

    Raises UnavailableError; small files are asked for first, so an unreachable place costs seconds.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise UnavailableError(f"none are published for {platform.machine()}")
    mirror = os.environ.get("OLLAMA_FLEET_KUBERNETES_MIRROR") or _KUBERNETES_MIRROR
    programs = f"{mirror.rstrip('/')}/{version}/bin/linux/{machine}"
    archives = (os.environ.get("OLLAMA_FLEET_ETCD_MIRROR") or _ETCD_MIRROR).rstrip("/")
    archive = f"etcd-{ETCD}-linux-{machine}.tar.gz"

    sums = {name: _text(f"{programs}/{name}.sha256").split()[0] for name in _PROGRAMS}
    etcd_sum = _listed(_text(f"{archives}/{ETCD}/SHA256SUMS"), archive)
    started = time.monotonic()
    for name in _PROGRAMS:
        _write(directory / name, _checked(f"{programs}/{name}", sums[name]))
        say(f"downloaded {name} {version} ({time.monotonic() - started:.0f} s)")
    packed = _checked(f"{archives}/{ETCD}/{archive}", etcd_sum)
    _write(directory / "etcd", _member(packed, archive.removesuffix(".tar.gz") + "/etcd"))
    say(f"downloaded etcd {ETCD} ({time.monotonic() - started:.0f} s)")


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE) as response:
            body: bytes = response.read()
            return body
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UnavailableError(f"{url}: {reason}") from error


def _text(url: str) -> str:
    text = _fetch(url).decode(errors="replace").strip()
    if not text:
        raise UnavailableError(f"{url}: empty")
    return text


def _checked(url: str, sha256: str) -> bytes:
    body = _fetch(url)
    found = hashlib.sha256(body).hexdigest()
    if found != sha256:
        raise UnavailableError(
            f"{url}: its SHA-256 is {found[:12]}…, the published one {sha256[:12]}…"
        )
    return body


def _listed(sums: str, name: str) -> str:
    for line in sums.splitlines():
        digest, _, listed = line.partition(" ")
        if listed.strip().lstrip("*") == name:
            return digest
    raise UnavailableError(f"no published SHA-256 for {name}")


def _member(archive: bytes, name: str) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            file = tar.extractfile(name)
            if file is None:
                raise UnavailableError(f"the archive's {name} is no file")
            return file.read()
    except (tarfile.TarError, KeyError) as error:
        raise UnavailableError(f"the archive has no {name}") from error


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)
