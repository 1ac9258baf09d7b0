"""The properties about hostile input, with examples that coverage leads to: `make fuzz-guided`.

Hypothesis makes examples out of bytes, libFuzzer (by atheris) looks for bytes that reach what none
reached before. `python -m tests.guided [MINUTES] [PATTERN]` gives each property whose name matches
as long as the others; what it has found stays in `build/fuzz`, and is where the next run begins.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOUND = ROOT / "build" / "fuzz"
LONGEST = 4096
"""Bytes of an example."""
WITHIN = 60
"""Seconds after which something hangs."""
MEMORY = 2048
"""MiB that are too many."""


def properties() -> Iterator[str]:
    """All of them that need nothing of pytest, as `module:function`."""
    for path in sorted(ROOT.glob("tests/unit/*/test_hostile.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name, found in vars(importlib.import_module(module)).items():
            inner = getattr(getattr(found, "hypothesis", None), "inner_test", None)
            if inner is not None and "tmp_path_factory" not in inner.__code__.co_varnames:
                yield f"{module}:{name}"


def explore(name: str, seconds: int) -> None:
    """Try one property in this process, which ends with it."""
    import atheris

    module, _, function = name.partition(":")
    with atheris.instrument_imports(include=["ollama_fleet"]):
        found: Any = getattr(importlib.import_module(module), function)
    kept = FOUND / function
    kept.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={WITHIN}",
        f"-rss_limit_mb={MEMORY}",
        f"-artifact_prefix={FOUND}/bad-{function}-",
        "-len_control=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([name, *options, str(kept)], found.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def main() -> None:
    """Each in a process of its own, one after another."""
    if sys.argv[1:2] == ["--one"]:
        explore(sys.argv[2], int(sys.argv[3]))
        return
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    pattern = re.compile(sys.argv[2] if len(sys.argv) > 2 else "")
    names = [name for name in properties() if pattern.search(name)]
    seconds = max(1, round(60 * minutes / max(1, len(names))))
    bad = []
    for name in names:
        command = [sys.executable, "-m", "tests.guided", "--one", name, str(seconds)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        tried = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        reached = re.findall(r"cov: (\d+)", done.stderr)
        print(
            f"{name.partition(':')[2]:50}"
            f"{tried[1] if tried else '?':>9} tried, {reached[-1] if reached else '?':>6} branches"
            f"{'' if done.returncode == 0 else '  BAD'}",
            flush=True,
        )
        if done.returncode:
            bad.append(name)
            said = (done.stdout + done.stderr).splitlines()
            told = [line for line in said if len(line) < 300 and not re.match(r"#\d+\s", line)]
            print("\n".join(told[-60:]), file=sys.stderr)
    if bad:
        sys.exit(f"bad: {', '.join(bad)}")


if __name__ == "__main__":
    main()
