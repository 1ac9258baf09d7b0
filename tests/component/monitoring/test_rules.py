"""The rules, as Prometheus' own checker finds them."""

import subprocess
from pathlib import Path

import pytest

from dev import promtool

CASES = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))


@pytest.fixture(scope="module")
def checker() -> Path:
    found = promtool.find()
    if found is None:
        pytest.skip("no promtool: make tools")
    return found


def test_promtool_finds_nothing_wrong(checker: Path) -> None:
    assert promtool.check(checker) == ""


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_clear(checker: Path, path: Path) -> None:
    done = subprocess.run(
        [checker, "test", "rules", path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
