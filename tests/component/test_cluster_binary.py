"""Where the local cluster finds its control plane, with stand-ins for the network and for Go."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dev.cluster import ClusterError, binary, releases

SCRIPT = b"#!/bin/sh\necho stand-in\n"
BINARIES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")

GO = """#!/bin/sh
if [ "$1" = version ]; then echo go version go1.26.1 linux/amd64; exit; fi
echo build >> {count}
echo k8s.io/some/package >&2
{then}
for last in "$@"; do [ "$previous" = -o ] && target=$last; previous=$last; done
printf '#!/bin/sh\\n' > "$target"; chmod +x "$target"
"""


class Releases(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes]

    def do_GET(self) -> None:
        body = self.files.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The files of a mirror with a complete release, by path; it is asked instead of the world."""
    machine = "arm64" if os.uname().machine == "aarch64" else "amd64"
    folder = f"etcd-{releases.ETCD}-linux-{machine}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(f"{folder}/etcd")
        member.size = len(SCRIPT)
        tar.addfile(member, io.BytesIO(SCRIPT))
    archive = packed.getvalue()
    sums = f"{'0' * 64}  other\n{hashlib.sha256(archive).hexdigest()}  {folder}.tar.gz\n"
    files = {
        f"/{releases.ETCD}/{folder}.tar.gz": archive,
        f"/{releases.ETCD}/SHA256SUMS": sums.encode(),
    }
    for name in BINARIES:
        path = f"/{binary.KUBERNETES}/bin/linux/{machine}/{name}"
        files[path] = SCRIPT
        files[f"{path}.sha256"] = hashlib.sha256(SCRIPT).hexdigest().encode()
    handler = type("Handler", (Releases,), {"files": files})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OLLAMA_FLEET_KUBERNETES_MIRROR", address)
        monkeypatch.setenv("OLLAMA_FLEET_ETCD_MIRROR", address)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield files
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("OLLAMA_FLEET_CONTROLPLANE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ollama-fleet"


def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str = "") -> Path:
    """Put a `go` first on PATH that counts its builds in the file returned."""
    count = tmp_path / "builds"
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(GO.format(count=count, then=then))
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:{os.environ['PATH']}")
    return count


def test_the_named_directory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in binary.PROGRAMS:
        (tmp_path / name).write_bytes(SCRIPT)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("OLLAMA_FLEET_CONTROLPLANE", str(tmp_path))
    found = binary.find(pytest.fail)
    assert found.command("etcd") == [str(tmp_path / "etcd")]


def test_a_named_directory_without_the_programs_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etcd").write_bytes(SCRIPT)
    (tmp_path / "etcd").chmod(0o755)
    monkeypatch.setenv("OLLAMA_FLEET_CONTROLPLANE", str(tmp_path))
    with pytest.raises(ClusterError, match="has no kube-apiserver, kube-controller-manager"):
        binary.find(pytest.fail)


def test_the_cached_file_is_all_programs(cache: Path) -> None:
    directory = binary.cache_directory()
    assert directory.parent == cache
    directory.mkdir(parents=True)
    (directory / "controlplane").write_bytes(SCRIPT)
    (directory / "controlplane").chmod(0o755)
    assert binary.find(pytest.fail).command("kubectl") == [
        str(directory / "controlplane"),
        "kubectl",
    ]


@pytest.mark.usefixtures("mirror")
def test_releases_are_downloaded_once() -> None:
    said: list[str] = []
    found = binary.find(said.append)
    assert [line.split()[1] for line in said] == [*BINARIES, "etcd"]
    assert {found.path(name).read_bytes() for name in binary.PROGRAMS} == {SCRIPT}
    assert binary.find(pytest.fail) == found


@pytest.mark.parametrize("fault", ["wrong checksum", "not there"])
def test_a_faulty_release_is_not_used(
    fault: str,
    mirror: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = fake_go(tmp_path, monkeypatch)
    scheduler = next(path for path in mirror if path.endswith("/kube-scheduler"))
    if fault == "wrong checksum":
        mirror[scheduler] = b"tampered with"
    else:
        del mirror[scheduler]
    said: list[str] = []
    found = binary.find(said.append)
    reason = next(line for line in said if "building it from source" in line)
    assert "kube-scheduler" in reason
    assert ("SHA-256" in reason) == (fault == "wrong checksum")
    assert found.command("etcd")[-1] == "etcd"
    assert count.read_text() == "build\n"
    assert not list(found.directory.parent.glob(".making-*"))


def test_an_unreachable_mirror_is_said_and_two_finders_build_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_FLEET_KUBERNETES_MIRROR", "http://127.0.0.1:1")
    count = fake_go(tmp_path, monkeypatch)
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: binary.find(said.append), range(2))
    assert first == second
    assert count.read_text() == "build\n"
    assert any("Connection refused" in line for line in said)


def test_a_failed_build_quotes_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_FLEET_KUBERNETES_MIRROR", "http://127.0.0.1:1")
    fake_go(tmp_path, monkeypatch, then="echo main.go:1: no good >&2; exit 1")
    with pytest.raises(ClusterError, match="no good"):
        binary.find(lambda _line: None)
    assert not binary.cache_directory().exists()
