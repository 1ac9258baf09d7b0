"""Renders the chart with helm: the one on PATH, or one built once from its Go module.

`python -m dev.chart helm` prints where helm is, making it first if need be.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dev.cluster import gobuild
from dev.cluster.errors import ClusterError

HELM = "v4.3.1"
CHART = Path(__file__).resolve().parent.parent / "charts" / "ollama-fleet"
_MODULE = f"helm.sh/helm/v4/cmd/helm@{HELM}"
_PACKAGES = 1100  # compiled in a build from nothing, for the progress line alone

Say = Callable[[str], None]
Object = dict[str, Any]


class ChartError(Exception):
    """What helm says is wrong with the chart or the values."""


def find_helm(say: Say, environment: Mapping[str, str] = os.environ) -> Path:
    """Return a helm of version 3 or 4; `say` gets a line per step of making one.

    Raises ClusterError where there is none and none can be built.
    """
    found = shutil.which("helm", path=environment.get("PATH"))
    if found and _usable(Path(found)):
        return Path(found)
    home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or "~") / ".cache"
    cache = Path(home).expanduser() / "ollama-fleet"
    helm = cache / f"helm-{HELM}" / "helm"
    if not os.access(helm, os.X_OK):
        _build(helm, cache, say)
    return helm


def render(
    helm: Path,
    *arguments: str,
    values: Object | None = None,
    release: str = "ollama-fleet",
    namespace: str = "ollama-fleet",
) -> dict[str, list[Object]]:
    """The chart's objects by template, such as "deployment.yaml"; hooks are left out.

    Raises ChartError.
    """
    command = ["template", release, str(CHART), "--namespace", namespace, "--no-hooks"]
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


def _usable(helm: Path) -> bool:
    try:
        answer = subprocess.run(
            [str(helm), "version", "--short"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return re.match(r"v[34]\b", answer.stdout) is not None


def _build(helm: Path, cache: Path, say: Say) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    go = gobuild.find_go(cache, say, "put helm on PATH")
    say(f"no helm on PATH: building {HELM} with {go}: about 2 minutes on 2 cores, once")
    with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as made:
        arguments = ["install", "-ldflags", "-s -w", _MODULE]
        gobuild.compile_with(go, arguments, cache, _PACKAGES, say, GOBIN=made)
        helm.parent.mkdir(exist_ok=True)
        (Path(made) / "helm").replace(helm)


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
