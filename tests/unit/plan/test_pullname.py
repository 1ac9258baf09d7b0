import pytest

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.plan.pullname import pull_name
from tests.unit.plan.objects import Object
from tests.unit.plan.planning import LLAMA, MIRROR, WANT


@pytest.mark.parametrize(
    ("registry", "model", "name"),
    [
        ("registry.ollama.ai", LLAMA, LLAMA),
        ("models.lan:5000", LLAMA, "models.lan:5000/library/llama3.1:8b"),
        ("models.lan:5000", "hf.co/org/m:q4", "hf.co/org/m:q4"),
    ],
)
def test_another_registry_is_part_of_the_name_to_pull(registry: str, model: str, name: str) -> None:
    spec = ModelDistributionSpec.model_validate({**WANT, "source": {"registry": registry}})
    assert pull_name(spec, model) == (name, False)


@pytest.mark.parametrize(
    ("source", "model", "name"),
    [
        ({}, LLAMA, "mirror:5000/library/llama3.1:8b"),
        ({}, "HF.co/org/m:q4", "mirror:5000/HF_co___org/m:q4"),
        ({"registry": "models.lan:80"}, LLAMA, "mirror:5000/models_lan__80___library/llama3.1:8b"),
        ({"registry": "other.lan"}, LLAMA, "other.lan/library/llama3.1:8b"),
        ({}, "other.lan/org/m:q4", "other.lan/org/m:q4"),
        ({"mirror": False}, LLAMA, LLAMA),
    ],
)
def test_what_a_mirror_serves_is_pulled_from_it(source: Object, model: str, name: str) -> None:
    spec = ModelDistributionSpec.model_validate({**WANT, "source": source})
    assert pull_name(spec, model, MIRROR) == (name, name.startswith(MIRROR.address))
