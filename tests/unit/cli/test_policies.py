from typing import Any

import pytest

from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.fitting import judged
from ollama_fleet.cli.policies import (
    MANAGER,
    Asked,
    labels_of,
    meant,
    name_for,
    names,
    refusal,
    spec_of,
    target_of,
)
from tests.unit.cli.drawing import offered, sample

MODEL = "llama3.1:8b"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("given", "spec"),
    [
        ({}, {}),
        ({"digest": DIGEST}, {"models": [{"name": MODEL, "digest": DIGEST}]}),
        ({"max_parallel": "3"}, {"rollout": {"maxParallel": 3}}),
        ({"max_parallel": "25%"}, {"rollout": {"maxParallel": "25%"}}),
        (
            {"window": "22:00 - 06:00", "time_zone": "Asia/Shanghai"},
            {
                "rollout": {
                    "window": {"start": "22:00", "end": "06:00", "timeZone": "Asia/Shanghai"}
                }
            },
        ),
        (
            {"registry": "r.lan:5000", "insecure": True},
            {"source": {"registry": "r.lan:5000", "insecure": True}},
        ),
    ],
)
def test_what_is_asked_for_becomes_a_spec(given: dict[str, Any], spec: dict[str, Any]) -> None:
    assert spec_of(Asked((MODEL,), **given), {}) == {"models": [{"name": MODEL}], **spec}


@pytest.mark.parametrize(
    ("models", "given", "why"),
    [
        (["a b"], {}, "is no model name"),
        (["qwen3-coder:480b-cloud"], {}, "spec.models.*a cloud model.*name a local model"),
        ([MODEL, "a"], {"digest": DIGEST}, "--digest is of one model"),
        ([MODEL], {"digest": "abc"}, r"spec.models\[0\].digest: 'abc' is not a digest: write sha"),
        ([MODEL], {"window": "2:00-6:00"}, "'2:00' is not a time of day: write hours and minutes"),
        ([MODEL], {"window": "02:00"}, "START-END"),
        ([MODEL], {"window": "02:00-02:00"}, "leave it out"),
        ([MODEL], {"window": "02:00-03:00", "time_zone": "Mars"}, "no time zone is called Mars"),
        ([MODEL], {"time_zone": "UTC"}, "give both"),
        ([MODEL], {"max_parallel": "0"}, "maxParallel.*write a number of at least 1"),
        ([MODEL], {"max_parallel": "200%"}, "maxParallel.*from 1% to 100%"),
        ([MODEL], {"registry": "https://r.lan"}, "spec.source.registry.*without scheme"),
        ([f"m{number}" for number in range(65)], {}, "spec.models: .* at most 64"),
    ],
)
def test_what_the_schema_would_refuse_is_refused_with_a_sentence(
    models: list[str], given: dict[str, Any], why: str
) -> None:
    with pytest.raises(NotPossible, match=why):
        spec_of(Asked(tuple(models), **given), {})


def test_a_model_is_wanted_once() -> None:
    assert names(["llama3.2", "LLAMA3.2:latest", MODEL]) == ["llama3.2:latest", MODEL]


@pytest.mark.parametrize(
    ("models", "name"),
    [
        ([MODEL], "llama3.1-8b"),
        (["hf.co/Team/model:Q4_K_M"], "hf.co-team-model-q4-k-m"),
        ([MODEL, "qwen3:4b"], "llama3.1-8b-qwen3-4b"),
        (["_a:b_"], "a-b"),
        (["a.:b"], "a-b"),
    ],
)
def test_models_name_their_distribution(models: list[str], name: str) -> None:
    assert name_for(models) == name


def test_a_long_name_stays_one() -> None:
    one, two = (name_for([MODEL] * 8 + [last]) for last in "ab")
    assert one != two
    assert len(one) <= 63


def test_labels_choose_ollamanodes() -> None:
    fleet = sample()
    fleet.ollamanodes[0]["metadata"]["labels"] = {"tier": "gold", "zone": "a"}
    labels = labels_of(["tier=gold,zone=a"])
    target = target_of({"servers": ["fleet-gpu-6g"]}, labels, fleet)
    assert target == {"servers": ["fleet-gpu-6g"], "selector": {"matchLabels": labels}}
    assert [one.name for one in meant(fleet, target).servers()] == ["fleet-gpu-6g"]
    with pytest.raises(NotPossible, match="no OllamaNode has the labels tier=iron: see"):
        target_of({}, {"tier": "iron"}, fleet)
    with pytest.raises(NotPossible, match="no OllamaNode of spare has the labels"):
        target_of({"ollamaNodes": ["spare"]}, labels, fleet)


@pytest.mark.parametrize("text", ["tier", "=gold", "tier!=gold", "tier==gold"])
def test_a_selector_is_a_label_and_its_value(text: str) -> None:
    with pytest.raises(NotPossible, match="--selector takes label=value"):
        labels_of([text])


def test_only_what_distribute_made_is_replaced() -> None:
    made = {"metadata": {"name": "m", "managedFields": [{"manager": MANAGER}]}}
    assert refusal(made) is None
    assert "another --name" in (refusal({"metadata": {"name": "m"}}) or "")


def test_models_share_a_disk() -> None:
    fleet = sample()
    model = offered(MODEL)
    room = {"fleet-gpu-12g": 57 * 2**30}
    places = {("llm", name): size for name, size in room.items()}
    rows = {row["server"]: row for row in judged(model, fleet, promised=places)}
    assert rows["fleet-gpu-24g"]["fits"]
    assert not rows["fleet-gpu-12g"]["fits"]
    assert "60 GiB free, 57 GiB of it for the others" in rows["fleet-gpu-12g"]["why"]
