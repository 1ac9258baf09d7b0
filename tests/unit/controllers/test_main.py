"""The operator's command line."""

import pytest

from ollama_fleet.controllers.main import parser


def test_periods_are_durations() -> None:
    given = parser().parse_args(["--probe-interval=5s", "--offline-after=2m"])
    assert (given.probe_interval, given.offline_after) == (5, 120)
    given = parser().parse_args([])
    assert (given.probe_interval, given.offline_after) == (30, 60)
    assert given.resync_interval == 300
    assert parser().parse_args(["--resync-interval=2s"]).resync_interval == 2


def test_how_many_pulls_run_at_once() -> None:
    assert parser().parse_args([]).max_parallel_pulls is None
    assert parser().parse_args(["--max-parallel-pulls=Auto"]).max_parallel_pulls is None
    assert parser().parse_args(["--max-parallel-pulls=3"]).max_parallel_pulls == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--max-parallel-pulls=0", "'0' is no count: give a number from 1 to 10000, or Auto"),
        ("--max-parallel-pulls=all", "'all' is no count"),
        ("--probe-interval=5", "is not a duration: write 20s"),
        ("--offline-after=soon", "is not a duration: write 20s"),
        ("--probe-interval=100ms", "100ms is too short: give 1s or more"),
    ],
)
def test_what_is_not_taken(given: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([given])
    assert words in capsys.readouterr().err
