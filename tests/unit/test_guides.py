"""docs/guides: links lead somewhere, and what is recommended fits."""

import re
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
SYSTEM_GIB = 4


@pytest.mark.parametrize("path", sorted(GUIDES.glob("*.md")), ids=lambda one: one.name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("http") or (GUIDES / target).exists(), target


def test_the_models_for_one_machine_fit_in_its_memory_together() -> None:
    sizing = (GUIDES / "sizing.md").read_text()
    needs = dict(re.findall(r"^\| `(\S+)` \| [^|]+ \| ([\d.]+) GiB", sizing, re.MULTILINE))
    rows = re.findall(
        r"^\| (\d+) GB +\| (\d) +\| (.+) \|$", (GUIDES / "laptop.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 4
    for memory, servers, told in rows:
        models = re.findall(r"`(\S+)`", told)
        assert len(models) == int(servers)
        need = sum(float(needs[model]) for model in models)
        assert need + SYSTEM_GIB <= int(memory) * 1e9 / 2**30, memory
