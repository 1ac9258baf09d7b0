"""docs/guides: what is recommended fits."""

import re
from pathlib import Path

from dev.sizes import reported
from ollama_fleet.plan.catalogue import BUILT_IN
from ollama_fleet.plan.sizing import Load

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
SYSTEM_GIB = 4


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


def test_what_to_begin_with_fits_its_hardware() -> None:
    section = (
        (GUIDES / "sizing.md").read_text().partition("## By hardware")[2].partition("\n## ")[0]
    )
    offers = {offer.name: offer for offer in BUILT_IN}
    machines = re.findall(r"^\| (\d+) GB +\| `(\S+)` \| ([^|]*) ?\|$", section, re.MULTILINE)
    assert [int(memory) for memory, _, _ in machines] == [8, 16, 32, 64]
    for memory, one, several in machines:
        room = int(memory) * 10**9 - SYSTEM_GIB * 2**30
        assert offers[one].fit(Load(), room).fits, one
        needs = (offers[name].fit(Load()).need for name in re.findall(r"`(\S+)`", several))
        assert sum(needs) <= room, memory
    cards = re.findall(r"^\| (\d+) GB \| [^|]+ \| `(\S+)` \| ([^|]*)\|$", section, re.MULTILINE)
    assert [int(card) for card, _, _ in cards] == [4, 6, 8, 12, 16, 24, 48, 80]
    for card, name, settings in cards:
        parallel = re.search(r"`parallel: (\d)`", settings)
        load = Load(parallel=int(parallel[1]) if parallel else 1)
        assert offers[name].fit(load, reported(int(card))).fits, name
