"""Three minutes of the soak: whatever is done to a fleet in use loses no request."""

from pathlib import Path

from benchmarks.soak.__main__ import run


async def test_nothing_is_lost_while_all_of_it_is_changed_killed_and_rolled(tmp_path: Path) -> None:
    outcome = await run(tmp_path, 180)
    assert outcome.held, (outcome.counts, outcome.done, outcome.cuts, outcome.complaints[:5])
    assert len(outcome.done) >= 3
