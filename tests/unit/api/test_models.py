"""The models read whatever the API server takes, and refuse bad texts with the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from ollama_fleet.api.crd import RESOURCES
from ollama_fleet.api.model import EnvVar, Image, Labels, Model
from ollama_fleet.api.modeldistribution import ModelDistribution, WantedModel
from ollama_fleet.api.names import InvalidModelName, ModelName
from ollama_fleet.api.ollamanode import Gpu, OllamaNode, OllamaNodeSpec
from ollama_fleet.api.router import RetryPolicy, Router

TABLE = yaml.safe_load((Path(__file__).parents[2] / "cluster" / "specs.yaml").read_text())
KINDS: dict[str, type[BaseModel]] = {one.model.__name__: one.model for one in RESOURCES}
MINIMAL: dict[str, dict[str, Any]] = {
    "OllamaNode": {"replicas": 1},
    "ModelDistribution": {"models": [{"name": "a"}]},
    "Router": {},
}


def rows(section: str) -> list[Any]:
    return [
        pytest.param(kind, row, id=f"{kind}: {why}")
        for kind, listed in TABLE[section].items()
        for why, row in listed.items()
    ]


@pytest.mark.parametrize(("kind", "spec"), rows("good"))
def test_reads_what_the_api_server_takes(kind: str, spec: dict[str, Any]) -> None:
    read = KINDS[kind].model_validate({"spec": spec})
    assert KINDS[kind].model_validate(read.model_dump(by_alias=True)) == read


def worded() -> list[Any]:
    """Bad rows whose only fault is the form of one text."""
    return [
        row
        for row in rows("bad")
        if len(row.values[1]["says"]) == 1
        and row.values[1]["says"][0].partition(": ")[2].startswith(("not a", "zero,", "a cloud"))
    ]


@pytest.mark.parametrize(("kind", "row"), worded())
def test_refuses_a_text_with_the_words_of_the_api_server(kind: str, row: dict[str, Any]) -> None:
    (says,) = row["says"]
    with pytest.raises(ValidationError) as refusal:
        KINDS[kind].model_validate({"spec": row["spec"]})
    assert says.partition(": ")[2] in str(refusal.value)


@pytest.mark.parametrize("kind", KINDS)
def test_ignores_fields_of_later_versions(kind: str) -> None:
    spec = MINIMAL[kind]
    later = {"spec": {**spec, "later": {"a": 1}}, "status": {"later": True}}
    read = KINDS[kind].model_validate(later)
    assert read == KINDS[kind].model_validate({"spec": spec, "status": {}})


@pytest.mark.parametrize("kind", KINDS)
def test_reads_an_empty_status(kind: str) -> None:
    read = KINDS[kind].model_validate({"spec": MINIMAL[kind], "status": {}})
    assert read.model_dump()["status"]["conditions"] == []


def test_every_part_is_lenient_and_immutable() -> None:
    def parts(model: type[Model]) -> list[type[Model]]:
        return [part for child in model.__subclasses__() for part in (child, *parts(child))]

    found = parts(Model)
    assert {OllamaNode, ModelDistribution, Router} <= set(found)
    for part in found:
        assert part.model_config["extra"] == "ignore", part
        assert part.model_config["frozen"] is True, part


def test_numbers_become_texts_where_kubernetes_takes_both() -> None:
    spec = OllamaNodeSpec.model_validate(
        {
            "replicas": 1,
            "gpu": {"memory": 25769803776},
            "server": {"keepAlive": -1},
            "resources": {"requests": {"cpu": 2}},
        }
    )
    assert spec.gpu.memory == "25769803776"
    assert spec.server.keep_alive == "-1"
    assert spec.resources.requests == {"cpu": "2"}


def test_causes_of_a_retry() -> None:
    assert RetryPolicy.model_validate({"causes": ["Busy", 503]}).causes == ["Busy", "503"]
    assert RetryPolicy().causes == ["ConnectFailure", "Busy", "502", "503"]


def test_wire_is_camel_case_without_what_holds_nothing() -> None:
    assert EnvVar(name="A", value="b").wire() == {"name": "A", "value": "b"}
    assert "resourceName" not in Gpu().wire()
    assert Gpu(resource_name="nvidia.com/gpu.shared").wire()["resourceName"]


@pytest.mark.parametrize(
    ("gpu", "resource"),
    [
        (Gpu(), "nvidia.com/gpu"),
        (Gpu(vendor="amd"), "amd.com/gpu"),
        (Gpu(resource_name="nvidia.com/mig-1g.10gb"), "nvidia.com/mig-1g.10gb"),
    ],
)
def test_the_resource_each_server_asks_for(gpu: Gpu, resource: str) -> None:
    assert gpu.resource == resource


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        (Image(repository="a/b"), "a/b"),
        (Image(repository="a/b", tag="1"), "a/b:1"),
        (Image(repository="a/b", tag="1", digest="sha256:" + "0" * 64), "a/b@sha256:" + "0" * 64),
    ],
)
def test_image_reference(image: Image, reference: str) -> None:
    assert image.reference == reference


MODEL_NAMES = [
    "llama3.2",
    "llama3.1:8b",
    "team/model",
    "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
    "localhost:5000/team/model:v1",
    "_a",
    "a" * 80,
    "",
    "a b",
    "a:",
    ":a",
    "/a",
    "a//b",
    "a/b:c:d",
    "-a",
    "a:-b",
    "a" * 81,
    "a:" + "b" * 81,
    "ns.with.dots/model",
    "é",
]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_names_are_models_names_exactly_where_ollama_says_so(name: str) -> None:
    try:
        ModelName.parse(name)
    except InvalidModelName:
        with pytest.raises(ValidationError, match="is not a model name"):
            WantedModel(name=name)
    else:
        assert WantedModel(name=name).name == name


def test_labels_hold_what_kubernetes_takes() -> None:
    labels: TypeAdapter[dict[str, str]] = TypeAdapter(Labels)
    assert labels.validate_python({"tier": ""}) == {"tier": ""}
    with pytest.raises(ValidationError, match="not a label's value"):
        labels.validate_python({"tier": "-a"})
