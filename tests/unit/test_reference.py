"""docs/reference: every field is there, and every link leads somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dev import values
from dev.reference import page, pages
from ollama_fleet.api.crd import RESOURCES, Resource
from ollama_fleet.router.accesslog import EMPTY
from tests.unit.api.test_crds import schemas

ROOT = Path(__file__).parents[2]
by_kind = pytest.mark.parametrize("resource", RESOURCES, ids=lambda one: one.model.__name__)


def anchors(text: str) -> list[str]:
    """Of the headings, as web pages of Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in headings]


@by_kind
def test_every_field_has_a_row_in_the_table_of_its_object(resource: Resource) -> None:
    tables = {
        found[1]: set(re.findall(r"^\| `(\w+)` ", found[2], re.MULTILINE))
        for found in re.finditer(r"^##+ (.+)\n((?:(?!^#).*\n)*)", page(resource), re.MULTILINE)
    }
    for path in schemas(resource):
        parent, _, name = path.removeprefix(".").rpartition(".")
        if parent and not path.endswith(("[]", "{}")):
            assert name in tables[parent], path


@by_kind
def test_links_lead_to_headings_that_are_there_once(resource: Resource) -> None:
    text = page(resource)
    there = anchors(text)
    assert len(set(there)) == len(there)
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= set(there)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / "docs" / "reference" / target).exists()


def test_defaults_limits_and_refusals_are_told() -> None:
    node, models, router = (page(one) for one in RESOURCES)
    assert re.search(r"^\| `count` +\| integer, 1 to 64 +\| `1` +\| GPUs per", node, re.MULTILINE)
    assert re.search(r"^\| `url` +\| URL of a server +\| required ", node, re.MULTILINE)
    assert re.search(r"^\| `vendor` +\| `nvidia` or `amd` or `none` ", node, re.MULTILINE)
    assert "- OLLAMA_HOST cannot be set in env: " in node
    assert re.search(r"^\| duration +\| write numbers and units, such as 20s", node, re.MULTILINE)
    assert "- tiers go from the largest minMemory to the smallest" in models
    assert "- `interval`: zero, which leaves no time at all" in router


def test_tables_are_as_wide_in_every_row() -> None:
    for name, text in pages().items():
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            counts = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            assert len(counts) == 1, (name, table)


def test_the_keys_of_the_access_log_are_told_and_no_others() -> None:
    text = (ROOT / "docs" / "reference" / "observing.md").read_text()
    section = text.partition("## The access log")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` ", section, re.MULTILINE) == list(EMPTY)


def test_every_value_of_the_chart_is_told() -> None:
    told = {one.path for one in values.values()}
    given = yaml.safe_load((values.CHART / "values.yaml").read_text())

    def leaves(value: object, path: str) -> Iterator[str]:
        if path in told:
            yield path
        elif isinstance(value, dict):
            for name, below in value.items():
                yield from leaves(below, f"{path}.{name}" if path else name)
        else:
            raise AssertionError(f"{path} is not told")

    assert sorted(leaves(given, "")) == sorted(told)
    tag = next(one for one in values.values() if one.path == "image.tag")
    assert tag.about == "Empty: the chart's appVersion."
