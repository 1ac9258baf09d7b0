"""Models on offer, built in and added."""

import pytest
import yaml

from dev.ollama import library
from dev.sizes import CARDS, reported, table
from ollama_fleet.plan.architecture import architecture_of
from ollama_fleet.plan.catalogue import BUILT_IN, CONTEXTS, CatalogueError, catalogue
from ollama_fleet.plan.sizing import GIB, Load

BY_NAME = {offer.name: offer for offer in BUILT_IN}


@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_on_offer_is_what_the_library_has(name: str) -> None:
    entry, offer = library.LIBRARY[name], BY_NAME[name]
    shape = architecture_of(library.header_values(name, entry))
    assert shape is not None
    assert offer.architecture is not None
    assert offer.architecture.row == shape.row
    assert offer.architecture.windowed_row == shape.windowed_row
    assert offer.architecture.embeds == shape.embeds
    assert offer.size == entry.size


def test_each_says_what_it_is_and_needs() -> None:
    assert len(BY_NAME) == len(BUILT_IN)
    for offer in BUILT_IN:
        assert offer.display_name
        assert offer.description.endswith(".")
        needs = offer.needs()
        assert tuple(needs) == CONTEXTS
        assert not any(fit.estimated for fit in needs.values())
        assert [fit.need for fit in needs.values()] == sorted(fit.need for fit in needs.values())


@pytest.mark.parametrize(
    ("name", "card", "context"),
    [
        ("llama3.2:1b", 4, 4096),
        ("qwen3:4b", 6, 4096),
        ("llama3.1:8b", 8, 4096),
        ("gpt-oss:20b", 16, 4096),
        ("gpt-oss:20b", 16, 8192),
        ("qwen3-coder:30b", 24, 4096),
        ("llama3.3:70b", 48, 8192),
        ("gpt-oss:120b", 80, 131072),
    ],
)
def test_well_known_pairs_of_model_and_card(name: str, card: int, context: int) -> None:
    assert BY_NAME[name].fit(Load(context=context), reported(card)).fits


def test_the_table_has_a_row_for_each_and_a_column_for_each_card() -> None:
    lines = table().splitlines()
    assert len(lines) == len(BUILT_IN) + 2
    assert {line.count("|") for line in lines} == {len(CARDS) + 4}
    (row,) = (line for line in lines if "gpt-oss:20b" in line)
    assert row == "| `gpt-oss:20b` | 13.8 GB | 14.8 GiB |  |  |  |  | ● | ● | ● | ● |"


def test_a_config_map_adds_and_replaces() -> None:
    text = """
- {name: team/own, displayName: Our own, size: 8G, description: Of the team.}
- {name: "llama3.1:8b", size: 16Gi, description: Unquantised.}
"""
    offers = {offer.name: offer for offer in catalogue(yaml.safe_load(text))}
    assert len(offers) == len(BUILT_IN) + 1
    own = offers["team/own:latest"]
    assert (own.display_name, own.size, own.description) == ("Our own", 8 * 10**9, "Of the team.")
    assert own.fit(Load(), 16 * GIB).estimated
    assert offers["llama3.1:8b"].size == 16 * GIB
    assert offers["llama3.1:8b"].display_name == "Llama 3.1 8B"
    assert not offers["llama3.1:8b"].fit(Load()).estimated
    assert catalogue() == catalogue([]) == list(BUILT_IN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("word", "no list"),
        ("{name: a}", "no list"),
        ("- word", r"models\[0\]: "),
        ("- {name: a}", r"models\[0\].size: "),
        ("- {name: a, size: 1G}\n- {name: b, size: some}", r"models\[1\].size: 'some' is not"),
        ("- {name: 'a b', size: 1G}", r"models\[0\].name: 'a b' is no model name"),
        ("- {name: a, size: 1G, description: [1]}", r"models\[0\].description: "),
        ("[" + "{name: a, size: 1G}," * 257 + "]", "at most 256"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        catalogue(yaml.safe_load(text))
