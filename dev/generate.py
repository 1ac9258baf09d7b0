"""Write what is generated: crds/ from the models."""

import sys
from pathlib import Path

import yaml

from ollama_fleet.api.crd import RESOURCES, crd

ROOT = Path(__file__).parent.parent


def documents() -> dict[Path, str]:
    """Every generated file and its text."""
    return {
        ROOT / "crds" / f"{resource.plural}.yaml": dump(crd(resource)) for resource in RESOURCES
    }


def dump(document: object) -> str:
    """YAML with stable order, without aliases."""
    dumper = yaml.SafeDumper
    dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]
    return yaml.dump(document, Dumper=dumper, sort_keys=False, width=100, allow_unicode=True)


def main() -> int:
    """Write the files that differ."""
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
