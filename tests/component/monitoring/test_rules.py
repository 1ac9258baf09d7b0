"""The rules, as Prometheus' own checker finds them."""

import re
import subprocess
from pathlib import Path

import pytest

from dev import promtool

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "monitoring.md"
CASES = sorted(promtool.CASES.glob("*.yaml"))


@pytest.fixture(scope="module")
def checker() -> Path:
    found = promtool.find()
    if found is None:
        pytest.skip("no promtool: make tools")
    return found


def test_promtool_finds_nothing_wrong(checker: Path) -> None:
    assert promtool.check(checker) == ""


def test_the_guides_scrape_configuration_is_one(checker: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    (config,) = (block for block in blocks if "scrape_configs" in block)
    # Debian's knows no Kubernetes
    plain = re.sub(r"kubernetes_sd_configs: .*", "static_configs: [{targets: [a:1]}]", config)
    (tmp_path / "prometheus.yaml").write_text(plain)
    done = subprocess.run(
        [checker, "check", "config", "prometheus.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_clear(checker: Path, path: Path) -> None:
    assert promtool.test(checker, [path]) == ""
