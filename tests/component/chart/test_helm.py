"""Where helm comes from."""

from pathlib import Path

import pytest

from dev.chart import HELM, find_helm
from dev.cluster.errors import ClusterError


def test_the_one_on_path_is_taken(tmp_path: Path) -> None:
    on_path = program(tmp_path / "bin" / "helm", "v3.18.0+g1234567")
    assert find_helm(print, environment(tmp_path)) == on_path


def test_one_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "helm", "v2.17.0+g1234567")
    cached = program(tmp_path / "ollama-fleet" / f"helm-{HELM}" / "helm", "v4.3")
    assert find_helm(print, environment(tmp_path)) == cached


def test_a_build_that_fails_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        'case $1 in version) echo go version go1.26.1 x;; *) echo "no proxy" >&2; exit 1;; esac'
    )
    written(tmp_path / "bin" / "go", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(ClusterError, match="no proxy"):
        find_helm(lambda _: None, environment(tmp_path))
    assert not list((tmp_path / "ollama-fleet").iterdir())


def test_what_is_built_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = "'#!/bin/sh\\necho v4.3\\n'"
    install = f'printf {made} > "$GOBIN/helm"; chmod +x "$GOBIN/helm"'
    go = written(
        tmp_path / "bin" / "go",
        f"case $1 in version) echo go version go1.26.1 x;; *) {install};; esac",
    )
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    built = find_helm(lambda _: None, environment(tmp_path))
    go.unlink()
    assert find_helm(lambda _: None, environment(tmp_path)) == built
    assert built.is_relative_to(tmp_path / "ollama-fleet")


def environment(home: Path) -> dict[str, str]:
    return {"PATH": str(home / "bin"), "XDG_CACHE_HOME": str(home)}


def program(path: Path, version: str) -> Path:
    return written(path, f"echo {version}")


def written(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
