"""The router while its servers die, hang and restart at random."""

from pathlib import Path

from benchmarks.chaos.__main__ import run


async def test_chaos_loses_no_request_without_a_byte_and_garbles_none(tmp_path: Path) -> None:
    outcome = await run(tmp_path, 15, ["kill", "hang", "restart"])
    assert outcome.held, (outcome.chats, outcome.disturbances, outcome.complaints[:5])
    assert sum(outcome.disturbances.values()) >= 3
