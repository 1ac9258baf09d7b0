"""The real Ollama, found or built.

Version 0.17.4 is the last that `go build` alone makes; it has known holes, so it is for tests
on loopback only. Its module lacks three headers that come from Debian and PyPI.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dev.cluster import gobuild
from dev.cluster.errors import ClusterError

VERSION = "0.17.4"
_MODULE = f"github.com/ollama/ollama@v{VERSION}"
_PACKAGES = 530  # compiled in a build from nothing, for the progress line alone
_MINIAUDIO = "miniaudio==1.71"
_MINIAUDIO_SHA256 = "ff51e2887bb673e2e757752b586b3dc924d59aa5fbcae9bbc45f4a111bd3262b"
_DEBIAN = {"nlohmann": "nlohmann-json3-dev", "stb": "libstb-dev"}


class CannotBuild(Exception):  # noqa: N818
    """The build cannot go on; one sentence says what is missing."""


def find(env: Mapping[str, str] | None = None) -> Path | None:
    """The binary named by OLLAMA_FLEET_OLLAMA, else `ollama` on PATH, else the cached build."""
    env = os.environ if env is None else env
    named = env.get("OLLAMA_FLEET_OLLAMA")
    if named:
        return Path(named)
    on_path = shutil.which("ollama", path=env.get("PATH"))
    if on_path:
        return Path(on_path)
    cached = _cached(env)
    return cached if cached.exists() else None


def ensure(env: Mapping[str, str] | None = None) -> Path:
    """The binary, built into the cache (about two minutes) if there is none yet.

    Raises CannotBuild.
    """
    env = os.environ if env is None else env
    found = find(env)
    if found is not None:
        return found
    target = _cached(env)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / "lock"):
        if not target.exists():
            began = time.monotonic()
            _say(f"building ollama {VERSION}: there is none on PATH or in {target.parent}")
            _build(target, env)
            _say(f"built in {time.monotonic() - began:.0f} s: {target}")
    return target


def _cached(env: Mapping[str, str]) -> Path:
    cache = Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "/")) / ".cache")
    machine = f"{sys.platform}-{os.uname().machine}"
    return cache / "ollama-fleet" / f"ollama-v{VERSION}-{machine}" / "ollama"


def _build(target: Path, env: Mapping[str, str]) -> None:
    for compiler in ("gcc", "g++"):
        if shutil.which(compiler) is None:
            raise CannotBuild(f"{compiler} is missing: apt-get install {compiler}")
    headers = target.parent / "headers"
    otherwise = "set OLLAMA_FLEET_OLLAMA to an ollama binary"
    unfinished = target.with_suffix(f".{os.getpid()}")
    stamp = f"-s -w -X github.com/ollama/ollama/version.Version={VERSION}"
    flags = f"-O2 -I{headers}"
    try:
        go = gobuild.find_go(target.parent.parent, _say, otherwise)
        _headers(headers)
        _say(f"compiling with {go}: two to four minutes on 2 cores, once")
        gobuild.compile_with(
            go,
            ["build", "-buildvcs=false", "-ldflags", stamp, "-o", str(unfinished), "."],
            _source(go),
            _PACKAGES,
            _say,
            CGO_ENABLED="1",
            CGO_CFLAGS=flags,
            CGO_CXXFLAGS=flags,
        )
    except ClusterError as error:
        raise CannotBuild(str(error)) from error
    unfinished.rename(target)


def _source(go: Path) -> Path:
    """The module's source, checked by Go against its checksum database."""
    answer = json.loads(_run([str(go), "mod", "download", "-json", _MODULE]))
    return Path(answer["Dir"])


def _headers(directory: Path) -> None:
    """Gather the three headers in one directory."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for folder, package in _DEBIAN.items():
            if (directory / folder).exists():
                continue
            installed = Path("/usr/include") / folder
            source = installed if installed.is_dir() else _debian(package, scratch) / folder
            shutil.copytree(source, directory / folder)
        miniaudio = directory / "miniaudio" / "miniaudio.h"
        if not miniaudio.exists():
            miniaudio.parent.mkdir(parents=True, exist_ok=True)
            miniaudio.write_bytes(_miniaudio(scratch))


def _debian(package: str, scratch: Path) -> Path:
    """Unpack a Debian package's headers without installing it; gives its /usr/include."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise CannotBuild(f"{tool} is missing: install the headers of {package} by hand")
    _say(f"fetching {package}")
    download = ["download", "-q", package]
    try:
        _run(["apt-get", *download], cwd=scratch)
    except CannotBuild:
        # A new machine has no package lists; ours are our own, so that no root is needed.
        lists = scratch / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        own = ["apt-get", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={lists}"]
        _run([*own, "update", "-qq"], cwd=scratch, what="apt-get update")
        _run([*own, *download], cwd=scratch, what=f"apt-get download {package}")
    archive = next(scratch.glob(f"{package}_*.deb"))
    _run(["dpkg", "-x", str(archive), str(scratch / package)])
    return scratch / package / "usr" / "include"


def _miniaudio(scratch: Path) -> bytes:
    """miniaudio.h, out of a source distribution on PyPI."""
    _say(f"fetching {_MINIAUDIO} for its header")
    # not :all:, or pip would compile the tools that it reads a source distribution with
    pinned = scratch / "requirements.txt"
    pinned.write_text(f"{_MINIAUDIO} --hash=sha256:{_MINIAUDIO_SHA256}\n")
    _pip(
        *("download", "--no-deps", "--no-binary", "miniaudio", "--require-hashes"),
        *("-d", str(scratch), "-r", str(pinned)),
    )
    archive = next(scratch.glob("miniaudio-*.tar.gz"))
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != _MINIAUDIO_SHA256:
        raise CannotBuild(f"{_MINIAUDIO} has digest {found}, not {_MINIAUDIO_SHA256}")
    with tarfile.open(archive) as members:
        member = next(m for m in members if m.name.endswith("/miniaudio.h"))
        header = members.extractfile(member)
        assert header is not None
        return header.read()


def _pip(*arguments: str) -> None:
    _run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])


def _run(
    command: list[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    what: str = "",
) -> str:
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CannotBuild(f"{what or ' '.join(command[:6])} failed: {last}")
    return result.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"ollama: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        print(ensure())
    except CannotBuild as error:
        sys.exit(f"ollama: {error}")
