"""A few of all the faults; `make test-faults` tries them all."""

from __future__ import annotations

import asyncio

from tests.faults.campaign import campaign, table
from tests.faults.grounds import Grounds
from tests.faults.scenarios import SCENARIOS

COUNT = 2
"""Of each scenario."""


async def test_whatever_happens_it_ends_the_same(there: Grounds) -> None:
    said: list[str] = []
    results = await asyncio.gather(
        *(campaign(there, one, COUNT, COUNT, say=said.append) for one in SCENARIOS)
    )
    assert not any(one.bad for one in results), "\n".join([*said, table(results)])
    assert all(one.tried for one in results), table(results)
