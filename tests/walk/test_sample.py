"""A few fields of each kind; `make test-walk` walks them all."""

from __future__ import annotations

from pathlib import Path

from tests.walk.campaign import campaign, table
from tests.walk.rows import changes
from tests.walk.site import site

FIELDS = {
    "OllamaNode": {".image.tag", ".perNode"},
    "ModelDistribution": {".models[].name", ".sizing.contextLength"},
    "Router": {".queue.size", ".service.port"},
}


async def test_a_change_shows_goes_back_and_leads_where_it_leads_from_nothing(
    tmp_path: Path,
) -> None:
    chosen = [one for one in changes() if one.path in FIELDS[one.kind]]
    said: list[str] = []
    async with site(tmp_path) as here:
        outcomes = await campaign(here, chosen, len(chosen), said.append)
    assert not any(one.faults for one in outcomes), "\n".join([*said, table(outcomes)])
    assert {(one.change.kind, one.change.path) for one in outcomes} == {
        (kind, path) for kind, paths in FIELDS.items() for path in paths
    }
