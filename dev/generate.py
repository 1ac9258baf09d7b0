"""Write what is generated: crds/, docs/reference and dashboards, and manifests/ from the chart."""

import json
import sys
from pathlib import Path

import yaml

from dev import chart, reference, sizes, values
from dev.cluster.errors import ClusterError
from dev.dashboards import fleet, routers
from ollama_fleet.api.crd import RESOURCES, crd

ROOT = Path(__file__).parent.parent
DASHBOARDS = ROOT / "charts" / "ollama-fleet" / "files" / "dashboards"
MONITORED = {
    part: {"enabled": True}
    for part in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboards")
}
_NOTE = "# Generated from charts/ollama-fleet by `make generate`.\n"


def documents() -> dict[Path, str]:
    """Every file made from the models and its text; the chart carries the CRDs along."""
    pages = {ROOT / "docs" / "reference" / name: text for name, text in reference.pages().items()}
    pages[sizes.PAGE] = sizes.page()
    for name, board in (("fleet", fleet.dashboard()), ("routers", routers.dashboard())):
        pages[DASHBOARDS / f"{name}.json"] = json.dumps(board, indent=1) + "\n"
    pages[ROOT / "docs" / "reference" / "values.md"] = values.page()
    folders = (ROOT / "crds", ROOT / "charts" / "ollama-fleet" / "files" / "crds")
    return pages | {
        folder / f"{resource.plural}.yaml": dump(crd(resource))
        for folder in folders
        for resource in RESOURCES
    }


def manifests(helm: Path) -> dict[Path, str]:
    """Every file made from the chart and its text: one for each template, and
    the mirror and monitoring for those who want them."""
    base = chart.plain(helm)
    mirror = chart.plain(helm, mirror={"enabled": True})["mirror.yaml"]
    watched = chart.plain(helm, metrics=MONITORED)
    more = {f"monitoring/{name}": watched[name] for name in watched.keys() - base.keys()}
    found = {**base, "mirror/mirror.yaml": mirror, **more}
    return {
        ROOT / "manifests" / template: _NOTE + "---\n".join(dump(each) for each in objects)
        for template, objects in found.items()
    }


def dump(document: object) -> str:
    """YAML with stable order, without aliases."""
    dumper = yaml.SafeDumper
    dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]
    return yaml.dump(document, Dumper=dumper, sort_keys=False, width=100, allow_unicode=True)


def write(files: dict[Path, str]) -> None:
    """Write the files that differ."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")


def main() -> int:
    """The models' files first: the chart is rendered with them."""
    write(documents())
    try:
        write(manifests(chart.find_helm(print)))
    except (ClusterError, chart.ChartError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
