"""The operator's command line."""

import pytest

from ollama_fleet.controllers.main import parser


def test_periods_are_durations() -> None:
    given = parser().parse_args(["--probe-interval=5s", "--offline-after=2m"])
    assert (given.probe_interval, given.offline_after) == (5, 120)
    given = parser().parse_args([])
    assert (given.probe_interval, given.offline_after) == (30, 60)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--probe-interval=5", "is not a duration: write 20s"),
        ("--offline-after=soon", "is not a duration: write 20s"),
        ("--probe-interval=100ms", "100ms is too short: give 1s or more"),
    ],
)
def test_what_are_no_periods(given: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([given])
    assert words in capsys.readouterr().err
