from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.plan import unsupported

SAMPLES = sorted((Path(__file__).parents[3] / "manifests" / "samples").glob("*.yaml"))
CHECKS = {
    "OllamaNode": unsupported.ollama_node,
    "ModelDistribution": unsupported.model_distribution,
    "Router": unsupported.router,
}
OBJECTS = [document for path in SAMPLES for document in yaml.safe_load_all(path.read_text())]


@pytest.mark.parametrize(
    "sample", OBJECTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}"
)
def test_samples_use_only_what_is_served(sample: dict[str, Any]) -> None:
    verdict = CHECKS[sample["kind"]](sample["spec"])
    assert verdict is None, verdict.message


def test_names_differ_so_that_all_samples_apply_at_once() -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in OBJECTS]
    assert len(names) == len(set(names))
