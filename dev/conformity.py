"""Checks what is installed: the chart by helm, every object by the schemas of Kubernetes.

The oldest and the newest version that Chart.yaml names are both asked; a line each says what they
have against it. The schemas come with the package kubernetes-validate, so nothing is downloaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from dev import chart
from dev.chart import CHART, ChartError, Object
from dev.cluster.errors import ClusterError
from dev.gotool import GoTool, Say

ROOT = CHART.parent.parent
OLDEST, NEWEST = "1.30.0", "1.37.0"
_KUBECONFORM = GoTool(
    "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "v0.8.0", 230, "half a minute"
)
_FOREIGN = "ServiceMonitor,PodMonitor,PrometheusRule"
"""Kinds of the Prometheus operator, of which Kubernetes has no schema."""
_BUNDLE = "kubernetes-json-schema"

SETTINGS: dict[str, Object] = {
    "as it is": {},
    "with everything": {
        "replicas": 2,
        "commonLabels": {"team": "ml"},
        "commonAnnotations": {"owner": "ml@example.com"},
        "crds": {"keep": False},
        "mirror": {"enabled": True, "credentialsSecret": "registry"},
        "metrics": {
            "serviceMonitor": {"enabled": True},
            "podMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboards": {"enabled": True},
        },
        "watchNamespaces": ["llm", "lab"],
    },
    "in its own namespace": {"rbac": {"scope": "Namespaced"}, "crds": {"enabled": False}},
}
"""Values the chart is tried with."""


def find_kubeconform(say: Say) -> Path:
    """Return a kubeconform, made if need be. Raises ClusterError."""
    return _KUBECONFORM.find(say)


def complaints(helm: Path, kubeconform: Path) -> list[str]:
    """All that is wrong, a line each; empty: nothing."""
    found: list[str] = []
    try:
        chart.run(helm, "lint", "--strict", "--quiet", str(CHART))
    except ChartError as error:
        found.append(f"helm lint: {error}")
    for version in (OLDEST, NEWEST):
        named = {f"chart {name}": of for name, of in _rendered(helm, version).items()}
        for paths in ("manifests/*.yaml", "manifests/[!s]*/*.yaml", "manifests/samples/*.yaml"):
            for path in sorted(ROOT.glob(paths)):
                if path.name != "kustomization.yaml":
                    objects = list(yaml.safe_load_all(path.read_text()))
                    named[str(path.relative_to(ROOT))] = objects
        found += [f"Kubernetes {version}: {one}" for one in refused(kubeconform, version, named)]
    return found


def refused(kubeconform: Path, version: str, named: dict[str, list[Object]]) -> list[str]:
    """What the schemas of a Kubernetes version have against these objects, by where they are."""
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-schemas-") as folder:
        schemas = Path(folder) / "schemas"
        schemas.mkdir()
        for path, schema in _schemas(version, (one for of in named.values() for one in of)):
            (schemas / path).write_text(json.dumps(schema))
        files_of = {}
        for number, (name, objects) in enumerate(named.items()):
            file = Path(folder) / f"{number}.yaml"
            file.write_text(yaml.safe_dump_all(objects))
            files_of[str(file)] = name
        location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
        command = [str(kubeconform), "-strict", "-output=json", f"-skip={_FOREIGN}"]
        command += [f"-kubernetes-version={version}", f"-schema-location={location}", *files_of]
        done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        return [done.stderr.strip()]
    return [
        f"{files_of[one['filename']]}: {one['kind']} {one['name']}: {one['msg']}"
        for one in json.loads(done.stdout).get("resources") or ()
    ]


def _rendered(helm: Path, version: str) -> dict[str, list[Object]]:
    return {
        name: [
            one
            for of in chart.render(
                helm, "--kube-version", version, values=values, hooks=True
            ).values()
            for one in of
        ]
        for name, values in SETTINGS.items()
    }


def _schemas(version: str, objects: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    """By the name that kubeconform asks for: the schemas of these objects' kinds."""
    bundle = files("kubernetes_validate") / _BUNDLE / f"v{version}-local-strict"
    known = json.loads((bundle / "_definitions.json").read_text())["$defs"]
    wanted = {(one["apiVersion"], one["kind"]) for one in objects}
    for api_version, kind in sorted(wanted):
        group, _, number = api_version.rpartition("/")
        parts = [kind.lower(), *([group.partition(".")[0]] if group else []), number]
        name = "-".join(parts) + ".json"
        if group == "ollamafleet.dev":
            yield name, _own(kind)
        elif (bundle / name).is_file():
            schema = json.loads((bundle / name).read_text())
            yield name, _whole(schema, known)


def _own(kind: str) -> Object:
    """The schema of one of our kinds, which refuses what it does not know."""
    definition = yaml.safe_load((ROOT / "crds" / f"{kind.lower()}s.yaml").read_text())
    schema: Object = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    own = {"apiVersion", "kind", "metadata"}
    closed: Object = _closed(schema)
    closed["properties"] |= {name: {} for name in own}
    return closed


def _closed(schema: Any) -> Any:
    """The schema, with every object closed to fields that it does not name."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        made.setdefault("additionalProperties", False)
    return made


def _whole(schema: Object, known: Object) -> Object:
    """A schema that needs no other file: with all the definitions it comes to."""
    needed: Object = {}
    waiting = [schema]
    while waiting:
        for name in _references(waiting.pop()):
            if name not in needed:
                needed[name] = known[name]
                waiting.append(known[name])
    made: Object = _inward({**schema, "$defs": needed})
    return made


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _inward(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            name: f"#/$defs/{value.rpartition('/')[2]}"
            if name == "$ref" and isinstance(value, str)
            else _inward(value)
            for name, value in node.items()
        }
    return [_inward(one) for one in node] if isinstance(node, list) else node


def main() -> int:
    """Check everything; 1 where something is wrong."""

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        found = complaints(chart.find_helm(say), find_kubeconform(say))
    except (ClusterError, ChartError) as error:
        found = [str(error)]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
