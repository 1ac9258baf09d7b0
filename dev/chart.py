"""Renders the chart with helm: the one on PATH, or one built once from its Go module.

`python -m dev.chart helm` prints where helm is, making it first if need be.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dev.cluster.errors import ClusterError
from dev.gotool import GoTool, Say

HELM = "v4.3.1"
CHART = Path(__file__).resolve().parent.parent / "charts" / "ollama-fleet"

Object = dict[str, Any]


class ChartError(Exception):
    """What helm says is wrong with the chart or the values."""


def _usable(helm: Path) -> bool:
    try:
        answer = subprocess.run(
            [str(helm), "version", "--short"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return re.match(r"v[34]\b", answer.stdout) is not None


_TOOL = GoTool(
    "helm", "helm.sh/helm/v4/cmd/helm", HELM, 1100, "about 2 minutes on 2 cores", _usable
)


def find_helm(say: Say, environment: Mapping[str, str] = os.environ) -> Path:
    """Return a helm of version 3 or 4; `say` gets a line per step of making one.

    Raises ClusterError where there is none and none can be built.
    """
    return _TOOL.find(say, environment)


def on_path(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The helm on PATH, or one that was built before; None: nothing is made."""
    return _TOOL.there(environment)


def render(
    helm: Path,
    *arguments: str,
    values: Object | None = None,
    release: str = "ollama-fleet",
    namespace: str = "ollama-fleet",
    hooks: bool = False,
) -> dict[str, list[Object]]:
    """The chart's objects by template, such as "deployment.yaml"; hooks, where they are wanted.

    Raises ChartError.
    """
    command = ["template", release, str(CHART), "--namespace", namespace]
    command += [] if hooks else ["--no-hooks"]
    text = run(helm, *command, "--values", "-", *arguments, stdin=yaml.safe_dump(values or {}))
    objects: dict[str, list[Object]] = {}
    for document in re.split(r"^---$", text, flags=re.MULTILINE):
        source = re.search(r"^# Source: \S+/templates/(\S+)$", document, flags=re.MULTILINE)
        if source and (found := yaml.safe_load(document)):
            objects.setdefault(source[1], []).append(found)
    return objects


def run(helm: Path, *arguments: str, stdin: str = "") -> str:
    """What a helm command prints; ChartError with its complaint where it fails."""
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-helm-") as home:
        # neither plugins nor settings of the person's own helm take part
        folders = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [str(helm), *arguments],
            input=stdin,
            env={**os.environ, **folders},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise ChartError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def plain(helm: Path, **values: Object) -> dict[str, list[Object]]:
    """The chart's objects with its own values but for these, without a trace of helm."""
    rendered = render(helm, values={"crds": {"keep": False}, **values})
    return {
        template: [_without_helm(found) for found in objects]
        for template, objects in rendered.items()
    }


def _without_helm(found: Any) -> Any:
    if isinstance(found, dict):
        return {
            name: _without_helm(value)
            for name, value in found.items()
            if name not in ("helm.sh/chart", "app.kubernetes.io/managed-by")
        }
    return [_without_helm(item) for item in found] if isinstance(found, list) else found


def main(arguments: Sequence[str]) -> int:
    """Print where helm is."""
    if list(arguments) != ["helm"]:
        print("chart: write `python -m dev.chart helm`", file=sys.stderr)
        return 2
    try:
        print(find_helm(lambda line: print(line, file=sys.stderr)))
    except ClusterError as error:
        print(f"chart: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
