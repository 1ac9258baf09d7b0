"""The list of what runs, as `make sbom` writes it."""

import json
import subprocess
from pathlib import Path

from dev.generate import ROOT
from dev.packages import RUNS, pins


def test_it_names_every_package_that_runs_with_its_licence(tmp_path: Path) -> None:
    written = tmp_path / "sbom.json"
    command = ["make", "--silent", "sbom", f"SBOM={written}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    made = json.loads(written.read_text())
    wanted = {
        f"pkg:pypi/{pin.key[0]}@{next(iter(pin.requirement.specifier)).version}"
        for pin in pins((ROOT / RUNS).read_text())
        if pin.applies
    }
    assert {one["purl"] for one in made["components"]} == wanted
    assert all(one["licenses"] for one in made["components"])
    root = made["metadata"]["component"]
    assert (root["name"], root["version"]) == ("ollama-fleet", "0.1.0")
    told = {one["ref"]: one.get("dependsOn", []) for one in made["dependencies"]}
    assert any(ref.startswith("kopf==") for ref in told[root["bom-ref"]])
