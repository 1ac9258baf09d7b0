"""manifests/: what kustomize makes of them is what helm makes of the chart."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.chart import plain
from dev.cluster import binary
from dev.generate import ROOT, manifests
from ollama_fleet.api.crd import RESOURCES

MANIFESTS = ROOT / "manifests"
SAMPLES = sorted((MANIFESTS / "samples").glob("*.yaml"))

Object = dict[str, Any]
Kustomize = Callable[[Path], list[Object]]


@pytest.fixture(scope="module")
def kustomize(say: Callable[[str], None]) -> Kustomize:
    command = binary.find(say).command("kubectl")

    def build(directory: Path) -> list[Object]:
        done = subprocess.run(
            [*command, "kustomize", str(directory)], capture_output=True, text=True, check=True
        )
        return list(yaml.safe_load_all(done.stdout))

    return build


def test_they_are_generated_anew_from_the_chart(helm: Path) -> None:
    stale = [
        path.name
        for path, text in manifests(helm).items()
        if not path.exists() or path.read_text() != text
    ]
    assert not stale, f"{', '.join(stale)}: run `make generate`"


def test_kustomize_gives_what_helm_gives(helm: Path, kustomize: Kustomize) -> None:
    of_helm = [found for objects in plain(helm).values() for found in objects]
    of_kustomize = [found for found in kustomize(MANIFESTS) if found["kind"] != "Namespace"]
    assert sorted(of_kustomize, key=identity) == sorted(of_helm, key=identity)


def test_the_mirrors_component_gives_what_helm_gives(
    helm: Path, kustomize: Kustomize, tmp_path: Path
) -> None:
    of_helm = [found for each in plain(helm, mirror={"enabled": True}).values() for found in each]
    (tmp_path / "manifests").symlink_to(MANIFESTS)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        "resources: [../manifests]\ncomponents: [../manifests/mirror]\n"
    )
    of_kustomize = [found for found in kustomize(overlay) if found["kind"] != "Namespace"]
    assert sorted(of_kustomize, key=identity) == sorted(of_helm, key=identity)


def test_an_overlay_moves_everything_to_another_namespace(
    kustomize: Kustomize, tmp_path: Path
) -> None:
    (tmp_path / "manifests").symlink_to(MANIFESTS)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text("namespace: elsewhere\nresources: [../manifests]\n")
    found = kustomize(overlay)
    namespaces = {each["metadata"].get("namespace", "elsewhere") for each in found}
    named = {each["metadata"]["name"] for each in found if each["kind"] == "Namespace"}
    subjects = {s["namespace"] for each in found for s in each.get("subjects", ())}
    assert namespaces == named == subjects == {"elsewhere"}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_read_as_it_was_meant(sample: Path) -> None:
    models = {resource.model.__name__: resource.model for resource in RESOURCES}
    for found in yaml.safe_load_all(sample.read_text()):
        if found["kind"] == "Secret":  # Kubernetes' own
            continue
        read = models[found["kind"]].model_validate(found)
        written = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert written["spec"].keys() == found["spec"].keys()
        assert "namespace" not in found["metadata"]


def test_every_sample_is_in_their_list() -> None:
    listed = (MANIFESTS / "samples" / "README.md").read_text()
    assert [path.name for path in SAMPLES if f"]({path.name})" not in listed] == []


def test_samples_do_not_take_each_others_names() -> None:
    found = [identity(each) for path in SAMPLES for each in yaml.safe_load_all(path.read_text())]
    assert len(found) == len(set(found)) > 3


def identity(found: Object) -> tuple[str, str]:
    return found["kind"], found["metadata"]["name"]
