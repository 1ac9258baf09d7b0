from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.sizes import CARDS, reported
from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.plan import unsupported
from ollama_fleet.plan.catalogue import BUILT_IN
from ollama_fleet.plan.choice import choices
from ollama_fleet.plan.demands import models_named
from ollama_fleet.plan.memory import Memory
from ollama_fleet.plan.sizing import Weights
from ollama_fleet.plan.tasks import RegistryFact
from tests.unit.plan.objects import server

SAMPLES = sorted((Path(__file__).parents[3] / "manifests" / "samples").glob("*.yaml"))
OBJECTS = [document for path in SAMPLES for document in yaml.safe_load_all(path.read_text())]


@pytest.mark.parametrize(
    "sample",
    [one for one in OBJECTS if one["kind"] == "Router"],
    ids=lambda one: one["metadata"]["name"],
)
def test_samples_use_only_what_is_served(sample: dict[str, Any]) -> None:
    verdict = unsupported.router(sample["spec"], "")
    assert verdict is None, verdict.message


def test_names_differ_so_that_all_samples_apply_at_once() -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in OBJECTS]
    assert len(names) == len(set(names))


LIBRARY = {
    offer.name: RegistryFact(weights=Weights(offer.size), architecture=offer.architecture)
    for offer in BUILT_IN
}
CHOOSING = [
    one
    for one in OBJECTS
    if one["kind"] == "ModelDistribution" and {"tiers", "bestFit"} & set(one["spec"])
]


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("sample", CHOOSING, ids=lambda one: one["metadata"]["name"])
def test_what_samples_choose_fits_every_card(sample: dict[str, Any], card: int) -> None:
    spec = ModelDistributionSpec.model_validate(sample["spec"])
    missing = RegistryFact(missing=True)
    registry = {name: LIBRARY.get(name, missing) for name in models_named(spec)}
    on_card = replace(server(), memory=Memory(reported(card), "a card"))
    found = choices(spec, on_card, registry)
    assert found
    assert [str(one.fit) for one in found if one.fit is None or not one.fit.fits] == []
