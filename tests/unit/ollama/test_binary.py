from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dev.ollama import binary, server_command


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_named_binary_comes_first_then_path_then_the_cache(tmp_path: Path) -> None:
    machine = f"{sys.platform}-{os.uname().machine}"
    built = f"ollama-fleet/ollama-v{binary.VERSION}-{machine}/ollama"
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": str(tmp_path / "bin")}
    assert binary.find(env) is None
    cached = executable(tmp_path / "cache" / built)
    assert binary.find(env) == cached
    assert binary.find({"HOME": str(tmp_path), "PATH": ""}) is None
    on_path = executable(tmp_path / "bin" / "ollama")
    assert binary.find(env) == on_path
    assert binary.find({**env, "OLLAMA_FLEET_OLLAMA": "/opt/ollama"}) == Path("/opt/ollama")


def test_the_server_is_the_real_one_unless_told_otherwise() -> None:
    real = {"OLLAMA_FLEET_OLLAMA": "/opt/ollama"}
    assert server_command(real) == ["/opt/ollama", "serve"]
    for env in ({**real, "OLLAMA_FLEET_SERVER": "emulator"}, {"PATH": ""}):
        program, script = server_command(env)
        assert program == sys.executable
        assert Path(script).is_absolute()
        assert Path(script).exists()


def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(binary.CannotBuild, match="gcc is missing: apt-get install gcc"):
        binary.ensure({"XDG_CACHE_HOME": str(tmp_path), "PATH": ""})
