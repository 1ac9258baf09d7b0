"""Prometheus and its own checker: those on PATH, or those unpacked once from Debian's package.

The package is not installed, as that would start a Prometheus on this machine.
`python -m dev.promtool check` checks the rules that the chart carries, and has every alert fire and
clear, where there is a promtool.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_ROOT = Path(__file__).parent.parent
RULES = _ROOT / "charts" / "ollama-fleet" / "files" / "rules"
CASES = _ROOT / "tests" / "component" / "monitoring" / "alerts"
_PROGRAMS = ("promtool", "prometheus")


class NoPromtool(Exception):  # noqa: N818
    """There is none, and none to be had here."""


def find(environment: Mapping[str, str] = os.environ, program: str = "promtool") -> Path | None:
    """Where it is; None: nowhere."""
    if found := shutil.which(program, path=environment.get("PATH")):
        return Path(found)
    cached = _cache(environment) / program
    return cached if os.access(cached, os.X_OK) else None


def ensure(environment: Mapping[str, str] = os.environ, program: str = "promtool") -> Path:
    """Where it is, after unpacking it if need be; raises NoPromtool."""
    if (found := find(environment, program)) is not None:
        return found
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoPromtool(f"put Prometheus' {program} on PATH")
    cache = _cache(environment)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix="promtool-") as name:
        _run(["apt-get", "download", "--quiet", "prometheus"], name)
        (package,) = Path(name).glob("*.deb")
        _run(["dpkg-deb", "--extract", package.name, "unpacked"], name)
        cache.mkdir(exist_ok=True)
        for each in _PROGRAMS:
            (Path(name) / "unpacked/usr/bin" / each).replace(cache / each)
    return cache / program


def check(promtool: Path) -> str:
    """What promtool finds wrong with the rules; empty: nothing."""
    rules = [str(path) for path in sorted(RULES.glob("*.yaml"))]
    return _complaints([str(promtool), "check", "rules", "--lint=all", "--lint-fatal", *rules])


def test(promtool: Path, cases: Sequence[Path]) -> str:
    """Which alerts do not fire or clear as these cases say; empty: none."""
    return _complaints([str(promtool), "test", "rules", *(one.name for one in cases)])


def _complaints(command: list[str]) -> str:
    done = subprocess.run(command, cwd=CASES, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def _run(command: list[str], directory: str) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NoPromtool(f"put Prometheus' promtool on PATH ({said})")


def _cache(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or "~") / ".cache"
    return Path(home).expanduser() / "ollama-fleet" / "promtool"


def main(arguments: Sequence[str]) -> int:
    """Check the rules."""
    if list(arguments) != ["check"]:
        print("promtool: write `python -m dev.promtool check`", file=sys.stderr)
        return 2
    if (promtool := find()) is None:
        print("promtool: not here, so the rules are not checked; `make tools` fetches it")
        return 0
    wrong = check(promtool) or test(promtool, sorted(CASES.glob("*.yaml")))
    print(wrong or "The alerts' rules are in order.", file=sys.stderr if wrong else sys.stdout)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
